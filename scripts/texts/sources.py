"""Texts from arguments, files and standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from epo_jax.errors import EpoError

STDIN = "-"


def read_texts(given: Sequence[str], files: Sequence[str]) -> list[str]:
    """The texts given, then those of files, one a line; empty lines are none, and "-" is standard input.

    Raises:
        EpoError: a file that cannot be read, or no texts.
    """
    texts = list(given)
    for name in files:
        try:
            data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
            lines = data.decode("utf-8").split("\n")
        except OSError as error:
            raise EpoError(f"--file={name}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise EpoError(f"--file={name}: is not UTF-8 ({error.reason} at byte {error.start})") from error
        texts += [line for line in (line.removesuffix("\r") for line in lines) if line]
    if not texts:
        raise EpoError("--text: none given; give texts with --text=..., or --file=FILE with one a line (- for stdin)")
    return texts


def writable(path: str, flag: str = "output") -> Path:
    """A path whose folder is there, so that nobody waits for what cannot be written.

    Raises:
        EpoError: there is no such folder, or the path is one.
    """
    found = Path(path).expanduser()
    if not found.parent.is_dir():
        raise EpoError(f"--{flag}={path}: there is no folder {found.parent}")
    if found.is_dir():
        raise EpoError(f"--{flag}={path}: is a folder; give a file")
    return found
