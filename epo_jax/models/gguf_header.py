"""The header of a GGUF file: its metadata, and where each tensor's bytes lie.

gguf's own reader makes several NumPy arrays of each token, which takes many seconds and more memory than the tensors of
a small model with a large vocabulary; and it believes lengths that lie.
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# More entries than any vocabulary or list of merges has, more characters than any name, more axes than any tensor.
LONGEST_ARRAY, LONGEST_NAME, MOST_AXES = 2**24, 256, 4
ALIGNMENT = "general.alignment"

_SCALARS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
}


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor as it lies in the file.

    Attributes:
        shape: outermost axis first; rows, along the last one, are quantized each by itself.
        kind: how its numbers are stored.
        offset: of its first byte in the file.
        size: bytes.
    """

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    size: int


@dataclasses.dataclass(frozen=True)
class Header:
    """What stands before the tensors.

    Attributes:
        metadata: every key with its value as a Python object.
        tensors: by name.
    """

    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]


def read_header(path: Path) -> Header:
    """Read a file's header and check that the file holds the bytes of every tensor, each of them once.

    Raises:
        ValueError: a file that is none, or not whole, or whose header lies.
        OSError: a file that cannot be read.
    """
    with path.open("rb") as file:
        reader = _Reader(file)
        if reader.take(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = reader.number("<I")
        if version & 0xFFFF == 0:
            raise ValueError("it is for machines that store the largest byte first")
        if version not in VERSIONS:
            raise ValueError(f"it has version {version} of the format, where one of {VERSIONS} is read")
        tensors, keys = reader.number("<Q"), reader.number("<Q")
        metadata = _table(keys, "key", lambda: (reader.name(), reader.value(reader.number("<I"))))
        entries = _table(tensors, "tensor", lambda: (reader.name(), reader.tensor()))
        alignment = metadata.get(ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment.bit_count() != 1:
            raise ValueError(f"{ALIGNMENT} is {alignment!r} and no power of two")
        start = _aligned(reader.position, alignment)
        stored = {name: dataclasses.replace(one, offset=start + one.offset) for name, one in entries.items()}
        _check_places(stored, alignment, reader.size)
    return Header(metadata, stored)


class _Reader:
    """Takes a header apart from its beginning, and never believes a length that the file does not have."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.position = 0

    def take(self, count: int) -> bytes:
        if count > self.size - self.position:
            raise ValueError(f"it ends before the {count} bytes that byte {self.position} begins")
        taken = self._file.read(count)
        if len(taken) != count:
            raise ValueError(f"it became shorter than {self.size} bytes")
        self.position += count
        return taken

    def number(self, kind: str) -> int:
        number: int = struct.unpack(kind, self.take(struct.calcsize(kind)))[0]
        return number

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8")

    def name(self) -> str:
        name = self.text()
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise ValueError(f"a name of {len(name)} characters before byte {self.position} is none: {name[:40]!r}")
        return name

    def value(self, kind: int) -> Any:
        kind = GGUFValueType(kind)
        if kind == GGUFValueType.STRING:
            return self.text()
        if kind == GGUFValueType.ARRAY:
            return self.array()
        return self.numbers(kind, 1)[0]

    def array(self) -> list[Any]:
        kind, length = GGUFValueType(self.number("<I")), self.number("<Q")
        # An entry takes a byte at least, in all kinds.
        if length > min(self.size - self.position, LONGEST_ARRAY):
            raise ValueError(f"an array of {length} entries before byte {self.position}")
        if kind in _SCALARS:
            return self.numbers(kind, length)
        return [self.text() if kind == GGUFValueType.STRING else self.array() for _ in range(length)]

    def numbers(self, kind: GGUFValueType, count: int) -> list[Any]:
        dtype = np.dtype(_SCALARS[kind])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()

    def tensor(self) -> Stored:
        axes = self.number("<I")
        if not 1 <= axes <= MOST_AXES:
            raise ValueError(f"a tensor of {axes} axes before byte {self.position}")
        shape = tuple(self.number("<Q") for _ in range(axes))[::-1]
        kind = GGMLQuantizationType(self.number("<I"))
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if shape[-1] % block:
            raise ValueError(f"a row of {shape[-1]} numbers is not made of {kind.name}'s blocks of {block}")
        return Stored(shape, kind, self.number("<Q"), math.prod(shape) // block * block_bytes)


def _table(count: int, what: str, read: Callable[[], tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(count):
        name, value = read()
        if name in table:
            raise ValueError(f"{what} {name} is there twice")
        table[name] = value
    return table


def _check_places(tensors: Mapping[str, Stored], alignment: int, size: int) -> None:
    before, end = "", 0
    for name, one in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size)):
        if one.offset < end:
            raise ValueError(f"tensors {before} and {name} share bytes")
        before, end = name, one.offset + one.size
        if end > size:
            raise ValueError(f"tensor {name} ends at byte {end} of {size}")
    # The last tensor is padded as the others are; a download that was gone on with at a wrong place makes more of it.
    if tensors and size > _aligned(end, alignment):
        raise ValueError(f"its {len(tensors)} tensors end at byte {end}, and it goes on to {size}")


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
