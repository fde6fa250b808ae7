"""Whether a job of several processes was asked to stop: Ctrl-C in one of them must not leave the others waiting."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from epo_jax.parallel import processes

_asked = threading.Event()


def stop_wanted(here: bool) -> bool:
    """Whether any process wants to stop; all must ask at the same place.

    Args:
        here: whether this one does.

    Raises:
        KeyboardInterrupt: on every process, if Ctrl-C was noted in one.
    """
    told = processes.gathered([here, _asked.is_set()], "stop")
    if any(interrupted for _, interrupted in told):
        _asked.clear()
        raise KeyboardInterrupt
    return any(wanted for wanted, _ in told)


@contextlib.contextmanager
def noted_interrupts() -> Iterator[None]:
    """Let Ctrl-C be noted for `stop_wanted` instead of breaking in anywhere; a second one breaks in."""
    before = signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _asked.clear()


def _note(_: int, __: FrameType | None) -> None:
    if _asked.is_set():
        raise KeyboardInterrupt
    _asked.set()
