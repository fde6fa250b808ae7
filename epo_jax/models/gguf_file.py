"""Reading GGUF files: metadata, tokenizer and dequantized tensors."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint

# What the reader raises where a file ends early or its bytes are not what its header says.
CORRUPT = (ValueError, IndexError, KeyError, TypeError, ArithmeticError, RecursionError, struct.error, OSError)
# More entries than any vocabulary or list of merges has.
LONGEST_ARRAY = 2**24


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
        with np.errstate(over="raise"):
            reader = _Reader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        shapes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    except CORRUPT as error:
        raise EpoError(f"{source}: not a whole GGUF file, it is truncated or corrupt ({_one_line(error)})") from error
    if "general.architecture" not in metadata:
        raise EpoError(f"{source}: the GGUF metadata lacks general.architecture, so this is not a whole model")
    if metadata.get("split.count", 1) not in (0, 1):
        parts = metadata["split.count"]
        raise EpoError(f"{source}: one of {parts} parts; join them with llama.cpp's gguf-split --merge")

    def read(name: str) -> np.ndarray:
        tensor = tensors[name]
        try:
            return gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shapes[name])
        except (NotImplementedError, *CORRUPT) as error:
            kind = tensor.tensor_type.name
            raise EpoError(f"{source}: tensor {name} ({kind}) cannot be dequantized ({_one_line(error)})") from error

    return GGUFFile(metadata, Checkpoint(source, shapes, read))


class _Reader(gguf.GGUFReader):
    """Refuses counts that the file cannot hold, which gguf's own reader would follow past the file's end."""

    def _get(self, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
        values = super()._get(offset, dtype, count, override_order)
        if len(values) != int(count):
            raise ValueError(f"it ends before byte {offset} and the {count} values there")
        return values

    def _get_field_parts(self, orig_offs: Any, raw_type: Any) -> Any:
        if raw_type == gguf.GGUFValueType.ARRAY:
            length = int(self._get(orig_offs + 4, np.uint64)[0])
            if length > min(len(self.data) - orig_offs, LONGEST_ARRAY):
                raise ValueError(f"an array of {length} entries at byte {orig_offs}")
        return super()._get_field_parts(orig_offs, raw_type)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
