"""The errors that a user's input can cause, and how their messages are put."""

from __future__ import annotations

from collections.abc import Iterable


class EpoError(ValueError):
    """Input that cannot be used: one line that names the flag or file, what is wrong and what would be right.

    The command line prints it and ends with exit code 2.
    """


def one_line(said: BaseException | str, most: int = 200) -> str:
    """An exception's or a program's text for a message: shortened and without line breaks."""
    return " ".join(str(said).split())[:most] or type(said).__name__


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names for a message, sorted, and how many more there are; what cannot be printed is quoted."""
    found = sorted(names)
    shown = ", ".join(name if name.isprintable() and len(name) < 100 else repr(name[:40]) for name in found[:most])
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"
