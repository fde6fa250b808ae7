"""The errors that a user's input can cause."""

from __future__ import annotations


class EpoError(ValueError):
    """Input that cannot be used: one line that names the flag or file, what is wrong and what would be right.

    The command line prints it and ends with exit code 2.
    """
