"""What a command line does when its machine is taken away: SIGTERM breaks in as Ctrl-C does, and what ran is kept."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# The exit code: a failure that passes, as sysexits.h calls it. The same command with --resume goes on.
EXIT_CODE = 75

_asked = threading.Event()


class TerminatedError(BaseException):
    """The process was asked to end; no Exception, so that nothing takes it for a failure of its own."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raise a `TerminatedError` in the main thread where SIGTERM finds it."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


def end_if_asked() -> None:
    """Raise the `TerminatedError` again that is on its way, if it was lost where Python drops what is raised.

    Such a place is a finalizer, which only prints it.

    Raises:
        TerminatedError: the process was asked to end.
    """
    if _asked.is_set():
        raise TerminatedError


def _terminate(_: int, __: FrameType | None) -> None:
    # A second one would break into what the first one makes us save.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _asked.set()
    raise TerminatedError
