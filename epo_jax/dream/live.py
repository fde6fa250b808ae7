"""How far a run is, on a terminal or in a log file."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich import progress
from rich.console import Console

from epo_jax.dream.progress import FLUENT_BELOW, Progress

SECONDS_PER_LINE = 15.0


class Live:
    """A progress bar on a terminal; a line now and then where the output is no terminal."""

    def __init__(self, console: Console):
        self._console = console
        self._printed = -math.inf
        self._bar = progress.Progress(
            progress.TextColumn("iteration {task.completed}/{task.total}"),
            progress.BarColumn(bar_width=20),
            progress.TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=None)

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, told: Progress) -> bool:
        """Show progress; never asks for a stop."""
        words = _words(told)
        self._bar.update(self._task, completed=told.iteration, total=told.iterations, description=words)
        due = time.monotonic() - self._printed >= SECONDS_PER_LINE or told.iteration == told.iterations
        if not self._console.is_terminal and due:
            self._printed = time.monotonic()
            self._console.print(f"iteration {told.iteration}/{told.iterations}  {words}", soft_wrap=True)
        return False


def _words(told: Progress) -> str:
    fluent = f"{told.best_fluent_feature:.3f}" if math.isfinite(told.best_fluent_feature) else "none yet"
    words = [f"best {told.best_feature:.3f}", f"below {FLUENT_BELOW:g} nats {fluent}"]
    if math.isfinite(told.candidates_per_second):
        minutes, seconds = divmod(round(told.seconds_left), 60)
        words += [f"{told.candidates_per_second:.1f} candidates/s", f"{minutes}:{seconds:02d} left"]
    return "  ".join(words)
