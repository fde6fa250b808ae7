"""What a run scored, in files that are only ever added: each holds the iterations since the one before it.

A file is whole or not there, and its checksum, the last four bytes, tells when it was damaged later; a checkpoint
stores how many of them count. What stands behind that number is overwritten.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epo_jax.dream.history import Chunk
from epo_jax.errors import one_line
from epo_jax.whole_files import write_whole

_FIELDS = ("ids", "feature", "cross_entropy", "scored", "iteration")
_CHECKSUM_BYTES = 4


class DamagedError(Exception):
    """A file that is missing, cut or changed; says which and what is wrong."""


def write_chunks(folder: Path, number: int, chunks: Sequence[Chunk]) -> None:
    """Write the file of a number, so that it is on the disk when this returns.

    Args:
        folder: of the files.
        number: of files before it.
        chunks: at least one.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(folder / _name(number), encoded(chunks))


def read_chunks(folder: Path, count: int) -> list[Chunk]:
    """What the first `count` files hold.

    Raises:
        DamagedError: one of them is not whole.
    """
    chunks: list[Chunk] = []
    for number in range(count):
        path = folder / _name(number)
        try:
            chunks += decoded(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path} is damaged ({one_line(error)})") from error
    iterations = np.concatenate([chunk.iteration for chunk in chunks]) if chunks else np.zeros(0, np.int32)
    if not np.array_equal(iterations, np.arange(len(iterations))):
        raise DamagedError(f"{folder} does not hold one iteration after the other")
    return chunks


def encoded(chunks: Sequence[Chunk]) -> bytes:
    """Chunks as the bytes of a file; neighbours of one shape become one."""
    groups: list[list[Chunk]] = []
    for chunk in chunks:
        if groups and groups[-1][0].ids.shape[1:] == chunk.ids.shape[1:]:
            groups[-1].append(chunk)
        else:
            groups.append([chunk])
    arrays: dict[str, Any] = {
        f"{number}.{name}": np.concatenate([getattr(chunk, name) for chunk in group])
        for number, group in enumerate(groups)
        for name in _FIELDS
    }
    file = io.BytesIO()
    np.savez(file, **arrays)
    content = file.getvalue()
    return content + _checksum(content)


def decoded(content: bytes) -> list[Chunk]:
    """The chunks that `encoded` was given, neighbours of one shape as one.

    Raises:
        ValueError: other bytes than it gave.
    """
    content, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if checksum != _checksum(content):
        raise ValueError("its checksum is another")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        groups = len(arrays.files) // len(_FIELDS)
        return [Chunk(*(arrays[f"{number}.{name}"] for name in _FIELDS)) for number in range(groups)]


def _name(number: int) -> str:
    return f"{number:06d}.chunks"


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")
