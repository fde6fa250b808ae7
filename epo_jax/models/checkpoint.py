"""Filling a decoder's parameters from a checkpoint's tensors, strictly."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx

from epo_jax.errors import EpoError
from epo_jax.models.config import DTYPES, DecoderConfig
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
        tensor: its name in the checkpoint, with `{l}` for the layer where it is one of a stack.
        transform: from the checkpoint's layout to the decoder's.
    """

    parameter: str
    tensor: str
    transform: Transform = as_is


def load_parameters(
    config: DecoderConfig, weights: Sequence[Weight], ignored: Sequence[str], checkpoint: Checkpoint
) -> nnx.State:
    """Parameters of the decoder, every one filled and every tensor used.

    Args:
        config: the decoder's settings.
        weights: the family's map.
        ignored: regular expressions of tensors that carry nothing to load.
        checkpoint: the tensors.

    Returns:
        State of arrays in the configuration's dtype, stacked over layers where the decoder stacks them.

    Raises:
        EpoError: tensors that no parameter takes, parameters that no tensor fills, or shapes that differ, all listed.
    """
    _, abstract = abstract_decoder(config)
    sources = {weight.parameter: weight for weight in weights}
    flat = [(".".join(map(str, path)), path, variable) for path, variable in nnx.to_flat_state(abstract)]
    missing, expected, problems = [], set(), []
    for name, _, _ in flat:
        weight = sources[name]
        for tensor in _tensor_names(weight, config):
            expected.add(tensor)
            if tensor not in checkpoint.shapes:
                missing.append(tensor)
    unused = [t for t in checkpoint.shapes if t not in expected and not any(re.fullmatch(p, t) for p in ignored)]
    if missing:
        problems.append(f"lacks {_listed(missing)}")
    if unused:
        problems.append(f"has tensors that the model does not take: {_listed(unused)}")
    if problems:
        raise EpoError(f"{checkpoint.source}: the checkpoint {' and '.join(problems)}")
    dtype = jnp.dtype(DTYPES[config.dtype])
    filled = []
    for name, path, variable in flat:
        array = _read(sources[name], config, checkpoint, variable.get_value().shape, dtype)
        filled.append((path, variable.replace(jnp.asarray(array))))
    return nnx.from_flat_state(filled)


def _read(
    weight: Weight, config: DecoderConfig, checkpoint: Checkpoint, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    names = list(_tensor_names(weight, config))
    array = np.empty(shape, dtype)
    for slot, name in zip(array if _stacked(weight) else [array], names, strict=True):
        tensor = weight.transform(checkpoint.read(name), config)
        if tensor.shape != slot.shape:
            raise EpoError(
                f"{checkpoint.source}: tensor {name} has shape {checkpoint.shapes[name]}, which gives {tensor.shape} "
                f"where the configuration asks for {slot.shape}"
            )
        slot[...] = tensor
    return array


def _stacked(weight: Weight) -> bool:
    return "{l}" in weight.tensor


def _tensor_names(weight: Weight, config: DecoderConfig) -> Iterator[str]:
    if not _stacked(weight):
        yield weight.tensor
        return
    for layer in range(config.layers):
        yield weight.tensor.format(l=layer)


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
