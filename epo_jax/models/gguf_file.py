"""Reading GGUF files: metadata and dequantized tensors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from epo_jax.errors import EpoError, one_line
from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.gguf_header import Stored, read_header

# What is raised where a file ends early or its bytes are not what its header says.
CORRUPT = (ValueError, IndexError, KeyError, TypeError, ArithmeticError, RecursionError, OSError)
# Numbers that are dequantized at a time: gguf's own function takes several times their memory.
AT_ONCE = 2**20


@dataclasses.dataclass(frozen=True)
class GGUFFile:
    """An opened GGUF file.

    Attributes:
        metadata: every key with its value as a Python object.
        checkpoint: its tensors, dequantized to float32 when read, outermost axis first.
    """

    metadata: Mapping[str, Any]
    checkpoint: Checkpoint


def open_gguf(path: Path) -> GGUFFile:
    """Open a GGUF file and read its metadata; tensors stay on disk until they are asked for.

    Raises:
        EpoError: the file is truncated, corrupt, not a GGUF file, or one part of several.
    """
    source = str(path)
    try:
        header = read_header(path)
    except CORRUPT as error:
        raise EpoError(f"{source}: not a whole GGUF file, it is truncated or corrupt ({one_line(error)})") from error
    metadata = header.metadata
    if "general.architecture" not in metadata:
        raise EpoError(f"{source}: the GGUF metadata lacks general.architecture, so this is not a whole model")
    if metadata.get("split.count", 1) not in (0, 1):
        parts = metadata["split.count"]
        raise EpoError(f"{source}: one of {parts} parts; join them with llama.cpp's gguf-split --merge")

    def read(name: str) -> np.ndarray:
        stored = header.tensors[name]
        try:
            return _dequantized(path, stored)
        except (NotImplementedError, *CORRUPT) as error:
            kind = stored.kind.name
            raise EpoError(f"{source}: tensor {name} ({kind}) cannot be dequantized ({one_line(error)})") from error

    in_order = sorted(header.tensors, key=lambda name: header.tensors[name].offset)
    return GGUFFile(metadata, Checkpoint(source, {name: header.tensors[name].shape for name in in_order}, read))


def _dequantized(path: Path, stored: Stored) -> np.ndarray:
    result = np.empty(stored.shape, np.float32)
    if not result.size:
        return result
    *outer, row = stored.shape
    rows = math.prod(outer)
    by_row, row_bytes, step = result.reshape(rows, row), stored.size // rows, max(1, AT_ONCE // row)
    # Plain reads: a mapped file's pages would count as this process's memory.
    with path.open("rb") as file, np.errstate(over="ignore", invalid="ignore"):
        file.seek(stored.offset)
        for start in range(0, rows, step):
            some = by_row[start : start + step]
            block = np.fromfile(file, np.uint8, len(some) * row_bytes)
            some[...] = gguf.quants.dequantize(block.reshape(len(some), row_bytes), stored.kind)
    return result
