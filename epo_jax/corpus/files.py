"""The folder of a scan: its tokens, which are only added to, and the hits so far, which are replaced as a whole.

tokens.bin holds the tokens of all windows one after the other, int32; windows.jsonl a line for each window: document,
place in it, number of tokens. What stands there behind the windows that hits.npz counts is cut off on going on.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from epo_jax.corpus.hits import Hits
from epo_jax.corpus.windows import Window
from epo_jax.errors import EpoError, one_line
from epo_jax.whole_files import write_whole

TOKENS, WINDOWS, HITS, NAMES, SETTINGS = "tokens.bin", "windows.jsonl", "hits.npz", "features.json", "scan.json"
ISOLATED = "isolated.npz"
_FIELDS = ("activation", "window", "position", "histogram")
_ID_BYTES = 4


def begin(folder: Path, settings: Mapping[str, Any], names: Sequence[Sequence[str]]) -> None:
    """Make the folder of a new scan, or check that the one that is there is of the same.

    Raises:
        EpoError: another scan's, or a folder of other things.
    """
    said = folder / SETTINGS
    try:
        if said.exists():
            old = settings_of(folder)
            differing = sorted(name for name in {*old, *settings} if old.get(name) != settings.get(name))
            if differing:
                name = differing[0]
                raise EpoError(
                    f"--output={folder}: holds a scan with {name}={_short(old.get(name))}, and this one has "
                    f"{name}={_short(settings.get(name))}; give another folder, or the same settings to go on"
                )
            if names_of(folder) != [list(group) for group in names]:
                raise EpoError(f"--output={folder}: holds a scan of other features; give another folder")
            return
        if folder.exists() and any(folder.iterdir()):
            raise EpoError(f"--output={folder}: holds other files; give a new or empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / NAMES, json.dumps([list(group) for group in names]).encode())
        write_whole(folder / SETTINGS, json.dumps(dict(settings), indent=2).encode())
    except EpoError:
        raise
    except (OSError, ValueError) as error:
        raise EpoError(f"--output={folder}: cannot be used ({one_line(error)})") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from scanning into a folder; let go of by the death of this one too.

    Raises:
        EpoError: another one scans into it.
    """
    with (folder / SETTINGS).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EpoError(f"--output={folder}: another process scans into it; wait, or give another folder") from error
        yield


def settings_of(folder: Path) -> dict[str, Any]:
    """What `begin` was given. Raises OSError or ValueError where there is no scan."""
    found: dict[str, Any] = json.loads((folder / SETTINGS).read_bytes())
    return found


def names_of(folder: Path) -> list[list[str]]:
    """Feature strings of each group. Raises as `settings_of` does."""
    found: list[list[str]] = json.loads((folder / NAMES).read_bytes())
    return found


def save(folder: Path, hits: Sequence[Hits], told: Mapping[str, Any]) -> None:
    """Replace the hits so far; tokens and windows that they count must have been added.

    Args:
        folder: of the scan.
        hits: of each group, numpy arrays [parts, width, ...].
        told: "windows", "positions", "seconds" and "done", whether that is the whole corpus.
    """
    arrays: dict[str, Any] = {
        f"{number}.{name}": np.asarray(getattr(group, name)) for number, group in enumerate(hits) for name in _FIELDS
    }
    arrays["told"] = np.frombuffer(json.dumps(dict(told)).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_whole(folder / HITS, file.getvalue())


def load(folder: Path) -> tuple[list[Hits], dict[str, Any]] | None:
    """What `save` was given last; None where nothing was saved yet.

    Raises:
        EpoError: the file is damaged.
    """
    path = folder / HITS
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            told = json.loads(arrays["told"].tobytes())
            groups = (len(arrays.files) - 1) // len(_FIELDS)
            return [Hits(*(arrays[f"{number}.{name}"] for name in _FIELDS)) for number in range(groups)], told
    # NumPy and zipfile raise all kinds of exceptions over files that are cut.
    except Exception as error:
        raise EpoError(f"{path} is damaged ({one_line(error)}); remove the folder and scan again") from error


def isolated_of(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of features, and their hits' activations and cross-entropies as isolated prompts; none before `rescore`.

    Raises:
        EpoError: the file is damaged.
    """
    path = folder / ISOLATED
    if not path.exists():
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["rows"], arrays["activation"], arrays["cross_entropy"]
    # NumPy and zipfile raise all kinds of exceptions over files that are cut.
    except Exception as error:
        raise EpoError(f"{path} is damaged ({one_line(error)}); remove it and score again") from error


class WindowWriter:
    """Adds windows to a scan's folder."""

    def __init__(self, folder: Path, windows: int) -> None:
        """Open the files and cut off what stands behind a number of windows.

        Raises:
            EpoError: the folder holds fewer.
        """
        path = folder / WINDOWS
        path.touch()
        (folder / TOKENS).touch()
        lines = path.read_bytes().splitlines(keepends=True)[:windows]
        sizes = [json.loads(line)[2] for line in lines]
        total = sum(sizes) * _ID_BYTES
        if len(lines) < windows or (folder / TOKENS).stat().st_size < total:
            raise EpoError(f"{path} holds fewer windows than {HITS} counts; remove the folder and scan again")
        self._windows, self._tokens = path.open("r+b"), (folder / TOKENS).open("r+b")
        self._windows.truncate(sum(map(len, lines)))
        self._tokens.truncate(total)
        for file in (self._windows, self._tokens):
            file.seek(0, os.SEEK_END)

    def add(self, windows: Sequence[Window]) -> None:
        """Write more windows."""
        for window in windows:
            self._windows.write(json.dumps([window.document, window.start, len(window.ids)]).encode() + b"\n")
            self._tokens.write(np.ascontiguousarray(window.ids, np.int32).tobytes())

    def settle(self) -> None:
        """Wait until all is on the disk."""
        for file in (self._windows, self._tokens):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files."""
        self._windows.close()
        self._tokens.close()


class WindowReader:
    """The windows of a scan's folder by number."""

    def __init__(self, folder: Path, windows: int) -> None:
        """Read the list of the first so many windows."""
        with (folder / WINDOWS).open("rb") as file:
            rows = [json.loads(line) for _, line in zip(range(windows), file, strict=False)]
        self._documents = [row[0] for row in rows]
        self._starts = [row[1] for row in rows]
        ends = np.cumsum([row[2] for row in rows], dtype=np.int64)
        self._offsets = np.concatenate([[0], ends])
        self._tokens = (
            np.memmap(folder / TOKENS, np.int32, "r", shape=(int(ends[-1]),)) if rows else np.zeros(0, np.int32)
        )

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Window]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Window:
        ids: Int32[np.ndarray, " n"] = np.asarray(self._tokens[self._offsets[number] : self._offsets[number + 1]])
        return Window(ids, self._documents[number], self._starts[number])

    def isolated(self, window: Int[np.ndarray, " n"], position: Int[np.ndarray, " n"], length: int) -> np.ndarray:
        """The tokens int32[n, length] that end at positions of windows."""
        last = self._offsets[window] + position
        return np.asarray(self._tokens)[last[:, None] + np.arange(1 - length, 1)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
