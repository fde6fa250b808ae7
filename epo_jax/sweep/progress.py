"""How far a sweep is: what a callback is told, a bar on a terminal, lines in a log."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from types import TracebackType

from rich import progress
from rich.console import Console

SECONDS_PER_LINE = 15.0


@dataclasses.dataclass(frozen=True)
class SweepProgress:
    """What a callback is told after each visit to the host.

    Attributes:
        done: dreams that are in the results, failed ones included, whoever made them.
        failed: of these, how many failed.
        dreams: of the whole sweep.
        share: how much of the batch under way is done, 0 to 1.
        together: dreams of that batch.
        seconds_left: at the speed of all processes since this one started; NaN until it is known.
    """

    done: int
    failed: int
    dreams: int
    share: float
    together: int
    seconds_left: float


Callback = Callable[[SweepProgress], bool | None]


class SweepLive:
    """A progress bar on a terminal; a line now and then where the output is no terminal."""

    def __init__(self, console: Console):
        self._console = console
        self._printed = -math.inf
        self._bar = progress.Progress(
            progress.TextColumn("dream {task.fields[done]}/{task.fields[all]}"),
            progress.BarColumn(bar_width=20),
            progress.TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=None, done="?", all="?")

    def __enter__(self) -> SweepLive:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, told: SweepProgress) -> bool:
        """Show progress; never asks for a stop."""
        words, done = _words(told), told.done + told.share * told.together
        self._bar.update(
            self._task, completed=done, total=told.dreams, description=words, done=told.done, all=told.dreams
        )
        due = time.monotonic() - self._printed >= SECONDS_PER_LINE or told.done == told.dreams
        if not self._console.is_terminal and due:
            self._printed = time.monotonic()
            self._console.print(f"dream {told.done}/{told.dreams}  {words}", soft_wrap=True)
        return False


def seconds_left(dreams: int, done: float, done_before: float, seconds: float) -> float:
    """Seconds until all dreams are done, at the speed since there were `done_before`; NaN without any speed."""
    made = done - done_before
    return math.nan if made <= 0 or seconds <= 0 else (dreams - done) * seconds / made


def _words(told: SweepProgress) -> str:
    words = [f"batch of {told.together} at {told.share:.0%}"] if told.together else []
    if told.failed:
        words.append(f"{told.failed} failed")
    if math.isfinite(told.seconds_left):
        minutes, seconds = divmod(round(told.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        words.append(f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left")
    return "  ".join(words)
