"""How a peer is timed: it makes iterations only when asked to, so that it never runs beside what it is compared with.

A peer reads one JSON object from standard input (what to run) and writes one to standard output (that it is ready).
Then each line that it reads is a number of iterations, and each line that it writes is their seconds; the end of the
input ends it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO


class Gate:
    """Stands between a peer's iterations."""

    def __init__(self, questions: TextIO, answers: TextIO, synchronize: Callable[[], None]):
        self._questions, self._answers, self._synchronize = questions, answers, synchronize
        self._left = 0
        self._begun: float | None = None

    def answer(self, **values: Any) -> None:
        """Write one line."""
        print(json.dumps(values), file=self._answers, flush=True)

    def passes(self) -> bool:
        """Called before every iteration: whether to make it. Waits for the next question where one is answered."""
        if self._left == 0:
            if self._begun is not None:
                # What was only put into a device's queue has not been done yet.
                self._synchronize()
                self.answer(seconds=time.perf_counter() - self._begun)
            line = self._questions.readline()
            if not line:
                return False
            self._left = int(line)
            self._begun = time.perf_counter()
        self._left -= 1
        return True


def read_task() -> dict[str, Any]:
    """What to run."""
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    return task
