"""Filling a decoder's parameters from a checkpoint's tensors, strictly."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from epo_jax.errors import EpoError
from epo_jax.models.config import DecoderConfig
from epo_jax.models.decoder import abstract_decoder


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Named tensors of a file or folder, read one at a time.

    Attributes:
        source: the file or folder, for messages.
        shapes: shape of every tensor, outermost axis first.
        read: tensor by name; raises EpoError where its bytes cannot be read.
    """

    source: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]

    def without(self, ignored: Sequence[str]) -> Checkpoint:
        """The same without the tensors whose names some regular expressions match."""
        kept = {name: shape for name, shape in self.shapes.items() if not any(re.fullmatch(p, name) for p in ignored)}
        return dataclasses.replace(self, shapes=kept)


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


def load_parameters(
    config: DecoderConfig,
    weights: Sequence[Weight],
    checkpoint: Checkpoint,
    copies: Mapping[str, str] = MappingProxyType({}),
) -> nnx.State:
    """Parameters of the decoder, every one filled and every tensor used.

    Args:
        config: the decoder's settings.
        weights: the family's map.
        checkpoint: the tensors.
        copies: tensors that may stand in the checkpoint a second time, each with the one that it must equal.

    Returns:
        State of arrays in the configuration's dtype, stacked over layers where the decoder stacks them.

    Raises:
        EpoError: tensors that no parameter takes and parameters that no tensor fills, all listed; a shape that differs;
            or a copy that is none.
    """
    if config.layers > len(checkpoint.shapes):
        raise EpoError(
            f"{checkpoint.source}: {config.layers} layers cannot come from the checkpoint's {len(checkpoint.shapes)} "
            "tensors"
        )
    _, abstract = abstract_decoder(config)
    sources = {weight.parameter: weight for weight in weights}
    flat = [(".".join(map(str, path)), path, variable) for path, variable in nnx.to_flat_state(abstract)]
    # How many numbers each tensor must hold, for all the parameters together that take a part of it.
    sizes: Counter[str] = Counter()
    for name, _, variable in flat:
        size = math.prod(_shape_of_one(sources[name], variable.get_value().shape))
        for tensor in _tensor_names(sources[name], config):
            sizes[tensor] += size
    missing = [tensor for tensor in sizes if tensor not in checkpoint.shapes]
    unused = [name for name in checkpoint.shapes if name not in sizes and name not in copies]
    problems = []
    if missing:
        problems.append(f"lacks {_listed(missing)}")
    if unused:
        problems.append(f"has tensors that the model does not take: {_listed(unused)}")
    if problems:
        raise EpoError(f"{checkpoint.source}: the checkpoint {' and '.join(problems)}")
    for copy, original in copies.items():
        if copy in checkpoint.shapes and not np.array_equal(checkpoint.read(copy), checkpoint.read(original)):
            raise EpoError(
                f"{checkpoint.source}: tensor {copy} differs from {original}, though the configuration makes them one"
            )
    filled = []
    for name, path, variable in flat:
        array = _read(sources[name], config, checkpoint, variable.get_value(), sizes)
        filled.append((path, variable.replace(jnp.asarray(array))))
    return nnx.from_flat_state(filled)


def _read(
    weight: Weight,
    config: DecoderConfig,
    checkpoint: Checkpoint,
    parameter: jax.ShapeDtypeStruct,
    sizes: Mapping[str, int],
) -> np.ndarray:
    names = list(_tensor_names(weight, config))
    one = _shape_of_one(weight, parameter.shape)

    def check(name: str, fits: bool) -> None:
        if not fits:
            raise EpoError(
                f"{checkpoint.source}: tensor {name} has shape {checkpoint.shapes[name]}, which does not give the "
                f"{one} of {weight.parameter} that the configuration asks for"
            )

    # Sizes first: an array is made for what the files hold, whatever the configuration says.
    for name in names:
        check(name, math.prod(checkpoint.shapes[name]) == sizes[name])
    array = np.empty(parameter.shape, parameter.dtype)
    for slot, name in zip(array if _stacked(weight) else [array], names, strict=True):
        tensor = checkpoint.read(name)
        try:
            tensor = weight.transform(tensor, config)
        except ValueError:
            check(name, False)
        check(name, tensor.shape == one)
        slot[...] = tensor
    return array


def _stacked(weight: Weight) -> bool:
    return "{l}" in weight.tensor


def _shape_of_one(weight: Weight, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The part of a parameter's shape that comes from one tensor."""
    return shape[1:] if _stacked(weight) else shape


def _tensor_names(weight: Weight, config: DecoderConfig) -> Iterator[str]:
    if not _stacked(weight):
        yield weight.tensor
        return
    for layer in range(config.layers):
        yield weight.tensor.format(l=layer)


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
