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
CORRUPT = (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error, OSError)


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
        reader = gguf.GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        shapes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    except CORRUPT as error:
        raise EpoError(f"{source}: not a whole GGUF file, it is truncated or corrupt ({_one_line(error)})") from error
    if "general.architecture" not in metadata:
        raise EpoError(f"{source}: the GGUF metadata lacks general.architecture, so this is not a whole model")
    if metadata.get("split.count", 1) > 1:
        raise EpoError(f"{source}: one of {metadata['split.count']} parts; join them with llama.cpp's gguf-split --merge")

    def read(name: str) -> np.ndarray:
        tensor = tensors[name]
        try:
            return gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shapes[name])
        except (NotImplementedError, *CORRUPT) as error:
            kind = tensor.tensor_type.name
            raise EpoError(f"{source}: tensor {name} ({kind}) cannot be dequantized ({_one_line(error)})") from error

    return GGUFFile(metadata, Checkpoint(source, shapes, read))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
