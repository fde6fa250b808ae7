"""One safetensors file: what it holds, and reading one tensor without the others."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from epo_jax.errors import EpoError, one_line

FLOATS = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
}
# The library reads no longer headers.
LONGEST_HEADER, LONGEST_NAME = 10**8, 256
NOTES = "__metadata__"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor as it lies in a file.

    Attributes:
        path: the file.
        kind: how its numbers are stored, as the header spells it.
        shape: outermost axis first.
        offset: of its first byte in the file.
        size: bytes.
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclasses.dataclass(frozen=True)
class Shard:
    """What a file holds.

    Attributes:
        entries: its tensors by name, in the order in which they lie there.
        left_out: tensors that were not saved because they are others of the file, each with the other.
    """

    entries: Mapping[str, Entry]
    left_out: Mapping[str, str]


def open_shard(path: Path) -> Shard:
    """Read a file's header and check that the file is as long as it says.

    Raises:
        EpoError: it is not, or the header is not valid.
    """
    try:
        # The library checks the header, and that its tensors fill the rest of the file without gaps.
        with safetensors.safe_open(path, framework="np"):
            pass
        header, start = _read_header(path)
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        reason = _size_lie(path) or one_line(error)
        raise EpoError(f"{path}: not a whole safetensors file, it is truncated or corrupt ({reason})") from error
    notes = header.pop(NOTES, None) or {}
    entries = {
        name: Entry(
            path,
            entry["dtype"],
            tuple(entry["shape"]),
            start + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    }
    return Shard(entries, {name: other for name, other in notes.items() if other in entries})


def read_tensor(name: str, entry: Entry) -> np.ndarray:
    """A tensor of one of the types in `FLOATS`, as it is stored.

    Plain reads: a mapped file's pages would count as this process's memory.

    Raises:
        EpoError: the file cannot be read, or is not what it was.
    """
    dtype, count = FLOATS[entry.kind], math.prod(entry.shape)
    try:
        values = np.fromfile(entry.path, dtype, count, offset=entry.offset)
    except OSError as error:
        raise EpoError(f"{entry.path}: tensor {name} cannot be read ({one_line(error)})") from error
    if len(values) != count:
        raise EpoError(f"{entry.path}: tensor {name} cannot be read (the file became shorter)")
    return values.reshape(entry.shape)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """A header, and where the tensors begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(min(length, LONGEST_HEADER)), object_pairs_hook=_unique)
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    odd = [name for name in table if len(name) > LONGEST_NAME or not name.isprintable()]
    if odd:
        raise ValueError(f"a name of {len(odd[0])} characters is none: {odd[0][:40]!r}")
    if len(table) < len(pairs):
        raise ValueError("a name is in its header twice")
    return table


def _size_lie(path: Path) -> str | None:
    """What is wrong with a file's size by its own header, if that is what is wrong."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return f"it has {size:,} bytes where its first 8 tell of a header of {length:,}"
        header, start = _read_header(path)
        told = start + max((entry["data_offsets"][1] for name, entry in header.items() if name != NOTES), default=0)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OSError):
        # Not even that much of the header can be read: then the library's word stands.
        return None
    return None if size == told else f"it has {size:,} bytes where its header tells of {told:,}"
