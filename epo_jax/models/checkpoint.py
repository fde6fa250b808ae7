"""A checkpoint's named tensors, and where a decoder's parameters come from among them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.config import DecoderConfig


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Named tensors of a file or folder, read one at a time.

    Attributes:
        source: the file or folder, for messages.
        shapes: shape of every tensor, outermost axis first, in the order in which reading them is quickest.
        read: tensor by name, in memory of its own that nobody writes to later; raises EpoError where its bytes cannot
            be read.
    """

    source: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]

    def without(self, ignored: Sequence[str]) -> Checkpoint:
        """The same without the tensors whose names some regular expressions match."""
        kept = {name: shape for name, shape in self.shapes.items() if not any(re.fullmatch(p, name) for p in ignored)}
        return dataclasses.replace(self, shapes=kept)

    def renamed(self, rename: Callable[[str], str]) -> Checkpoint:
        """The same tensors under other names.

        Raises:
            EpoError: two of them would have one name.
        """
        names: dict[str, str] = {}
        for name in self.shapes:
            other = names.setdefault(rename(name), name)
            if other != name:
                raise EpoError(f"{self.source}: tensors {other} and {name} are one under two names")
        shapes = {new: self.shapes[old] for new, old in names.items()}
        return dataclasses.replace(self, shapes=shapes, read=lambda name: self.read(names[name]))


Transform = Callable[[np.ndarray, DecoderConfig], np.ndarray]


def as_is(tensor: np.ndarray, _config: DecoderConfig) -> np.ndarray:
    """The tensor unchanged."""
    return tensor


def transposed(tensor: np.ndarray, _config: DecoderConfig) -> np.ndarray:
    """From PyTorch's (out, in) to Flax's (in, out)."""
    return tensor.T


@dataclasses.dataclass(frozen=True)
class Weight:
    """Where one parameter of the decoder comes from.

    Attributes:
        parameter: its path, joined by dots.
        tensor: its name in the checkpoint, with `{l}` for the layer where it is one of a stack. Several parameters may
            name one tensor, of which they then take different parts.
        transform: from the checkpoint's layout to the decoder's; raises ValueError for a tensor that it cannot take.
    """

    parameter: str
    tensor: str
    transform: Transform = as_is
