"""Filling a decoder's parameters from a checkpoint's tensors: strictly, and with two of them on the host at most."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jaxtyping import Float, Int32

from epo_jax.errors import EpoError, listed
from epo_jax.models.checkpoint import Checkpoint, Weight
from epo_jax.models.config import DecoderConfig
from epo_jax.models.decoder import abstract_decoder
from epo_jax.models.device_room import check_room
from epo_jax.parallel.placing import placed

# (bytes of parameters that are filled, bytes of all) -> nothing.
Progress = Callable[[int, int], None]
# (a parameter's path joined by dots, its shape) -> how it lies on devices; None for the default device.
Shardings = Callable[[str, tuple[int, ...]], Sharding | None]

BLOCK = 2**20  # numbers compared at a time


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a tensor, or a part of it, belongs.

    Attributes:
        weight: the parameter, and how it comes from the tensor.
        layer: which of the parameter's layers it is; None if it is the whole parameter.
        shape: what the part must have after the weight's transform.
        dtype: the parameter's.
    """

    weight: Weight
    layer: int | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def load_parameters(
    config: DecoderConfig,
    weights: Sequence[Weight],
    checkpoint: Checkpoint,
    copies: Mapping[str, str] = MappingProxyType({}),
    sharding: Shardings | None = None,
    progress: Progress | None = None,
    padded: DecoderConfig | None = None,
) -> nnx.State:
    """Parameters of the decoder, every one filled and every tensor used.

    Stacks of layers are made on the device once, and each layer is written into its own. Tensors are read one after the
    other in the checkpoint's order; beside the one that was read the host holds one that was made of it.

    Args:
        config: the decoder's settings.
        weights: the family's map.
        checkpoint: the tensors.
        copies: tensors that may stand in the checkpoint a second time, each with the one that it must equal.
        sharding: how parameters lie on devices; by default all on the default device.
        progress: called before the first tensor and after each part of one.
        padded: the same settings with the room that arrays have; what no tensor fills of it is zeros. By default no
            more than the tensors need.

    Returns:
        State of arrays in the configuration's dtype, stacked over layers where the decoder stacks them.

    Raises:
        EpoError: tensors that no parameter takes and parameters that no tensor fills, all listed; a shape that differs;
            a copy that is none; or parameters that the device has no room for.
    """
    if config.layers > len(checkpoint.shapes):
        raise EpoError(
            f"{checkpoint.source}: {config.layers} layers cannot come from the checkpoint's {len(checkpoint.shapes)} "
            "tensors"
        )
    _, abstract = abstract_decoder(config)
    variables = {".".join(map(str, path)): (path, variable) for path, variable in nnx.to_flat_state(abstract)}
    shapes = {name: variable.get_value() for name, (_, variable) in variables.items()}
    places = _places(config, weights, shapes)
    _check_names(checkpoint, places, copies)
    # Sizes first: arrays are made for what the files hold, whatever the configuration says.
    for tensor, takers in places.items():
        wanted = sum(math.prod(place.shape) for place in takers)
        _check(checkpoint, tensor, takers[0], math.prod(checkpoint.shapes[tensor]) == wanted)
    _check_copies(checkpoint, copies)
    _, abstract = abstract_decoder(padded or config)
    variables = {".".join(map(str, path)): (path, variable) for path, variable in nnx.to_flat_state(abstract)}
    rooms = {name: variable.get_value() for name, (_, variable) in variables.items()}
    lies = {name: sharding(name, room.shape) if sharding else None for name, room in rooms.items()}
    check_room(f"{checkpoint.source}: its", rooms.values(), list(lies.values()))

    stacks = {place.weight.parameter for takers in places.values() for place in takers if place.layer is not None}
    arrays = _stacks({name: rooms[name] for name in rooms if name in stacks}, lies)
    done, everything = 0, sum(_bytes(place) for takers in places.values() for place in takers)

    def tell() -> None:
        if progress is not None:
            progress(done, everything)

    tell()
    for tensor in checkpoint.shapes:
        for place, on_device in _parts(config, checkpoint, tensor, places.get(tensor, ()), rooms, lies):
            name = place.weight.parameter
            if place.layer is None:
                arrays[name] = on_device.astype(place.dtype)
            else:
                arrays[name] = write_layer(arrays[name], np.int32(place.layer), on_device, lies[name])
            del on_device
            # Waited for, since what is under way is memory too.
            jax.block_until_ready(arrays[name])
            done += _bytes(place)
            tell()
    return nnx.from_flat_state([(path, variable.replace(arrays[name])) for name, (path, variable) in variables.items()])


def _stacks(shapes: Mapping[str, jax.ShapeDtypeStruct], lies: Mapping[str, Sharding | None]) -> dict[str, Array]:
    """Stacks that are to be filled, made where they are to lie."""
    groups: dict[Sharding | None, list[str]] = defaultdict(list)
    for name in shapes:
        groups[lies[name]].append(name)
    made: dict[str, Array] = {}
    for where, names in groups.items():
        wanted = tuple((shapes[name].shape, np.dtype(shapes[name].dtype)) for name in names)
        made |= zip(names, _zeros(wanted, where), strict=True)
    return made


@functools.partial(jax.jit, static_argnums=(0, 1))
def _zeros(wanted: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...], where: Sharding | None) -> list[Array]:
    # Of all together, since each program takes its time to compile.
    made = [jnp.zeros(shape, dtype) for shape, dtype in wanted]
    return made if where is None else [jax.lax.with_sharding_constraint(array, where) for array in made]


@functools.partial(jax.jit, donate_argnums=0, static_argnums=3)
def write_layer(
    stack: Float[Array, "L *shape"], layer: Int32[Array, ""], tensor: Float[Array, "*shape"], sharding: Sharding | None
) -> Float[Array, "L *shape"]:
    """A stack with one layer overwritten, in the stack's own memory and dtype."""
    written = jax.lax.dynamic_update_index_in_dim(stack, tensor.astype(stack.dtype), layer, 0)
    return written if sharding is None else jax.lax.with_sharding_constraint(written, sharding)


def _places(
    config: DecoderConfig, weights: Sequence[Weight], shapes: Mapping[str, jax.ShapeDtypeStruct]
) -> Mapping[str, list[_Place]]:
    """All that the decoder needs, by tensor."""
    sources = {weight.parameter: weight for weight in weights}
    places: dict[str, list[_Place]] = defaultdict(list)
    for name, parameter in shapes.items():
        weight, dtype = sources[name], np.dtype(parameter.dtype)
        if "{l}" not in weight.tensor:
            places[weight.tensor].append(_Place(weight, None, parameter.shape, dtype))
            continue
        for layer in range(config.layers):
            places[weight.tensor.format(l=layer)].append(_Place(weight, layer, parameter.shape[1:], dtype))
    return dict(places)


def _check_names(checkpoint: Checkpoint, places: Mapping[str, list[_Place]], copies: Mapping[str, str]) -> None:
    missing = [tensor for tensor in places if tensor not in checkpoint.shapes]
    unused = [name for name in checkpoint.shapes if name not in places and name not in copies]
    problems = []
    if missing:
        problems.append(f"lacks {listed(missing)}")
    if unused:
        problems.append(f"has tensors that the model does not take: {listed(unused)}")
    if problems:
        raise EpoError(f"{checkpoint.source}: the checkpoint {' and '.join(problems)}")


def _check_copies(checkpoint: Checkpoint, copies: Mapping[str, str]) -> None:
    for copy, original in copies.items():
        if copy in checkpoint.shapes and not _equal(checkpoint.read(copy), checkpoint.read(original)):
            raise EpoError(
                f"{checkpoint.source}: tensor {copy} differs from {original}, though the configuration makes them one"
            )


def _check(checkpoint: Checkpoint, tensor: str, place: _Place, fits: bool) -> None:
    if not fits:
        raise EpoError(
            f"{checkpoint.source}: tensor {tensor} has shape {checkpoint.shapes[tensor]}, which does not give the "
            f"{place.shape} of {place.weight.parameter} that the configuration asks for"
        )


def _parts(
    config: DecoderConfig,
    checkpoint: Checkpoint,
    tensor: str,
    takers: Sequence[_Place],
    rooms: Mapping[str, jax.ShapeDtypeStruct],
    lies: Mapping[str, Sharding | None],
) -> Iterator[tuple[_Place, Array]]:
    """Read a tensor once, make of it what each of its takers asks for, and put that on the device."""
    if not takers:
        return
    values = checkpoint.read(tensor)
    for place in takers:
        try:
            part = place.weight.transform(values, config)
        except ValueError:
            _check(checkpoint, tensor, place, False)
        _check(checkpoint, tensor, place, part.shape == place.shape)
        if place is takers[-1]:
            # A part that is a view keeps the tensor; beside one that is a copy it is needed no more.
            del values
        if part.dtype == np.float64:
            # JAX would round to float32 first.
            with np.errstate(over="ignore", invalid="ignore"):
                part = part.astype(place.dtype)
        room = rooms[place.weight.parameter].shape
        part = _filled_up(part, room if place.layer is None else room[1:])
        where = lies[place.weight.parameter]
        if where is None:
            on_device = jax.device_put(part)
        else:
            on_device = placed(part, where if place.layer is None else _of_layer(where))
        jax.block_until_ready(on_device)
        del part
        yield place, on_device
        del on_device


def _filled_up(part: np.ndarray, room: tuple[int, ...]) -> np.ndarray:
    """A parameter with zeros behind each of its dimensions, up to the room that there is."""
    if part.shape == room:
        return part
    filled = np.zeros(room, part.dtype)
    filled[tuple(slice(size) for size in part.shape)] = part
    return filled


def _of_layer(sharding: Sharding) -> Sharding:
    """How one layer lies of a stack that lies as given."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))
    return sharding


def _bytes(place: _Place) -> int:
    return math.prod(place.shape) * place.dtype.itemsize


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    # Block by block: a whole table of answers would be memory too.
    if one.shape != other.shape:
        return False
    one, other = one.reshape(-1), other.reshape(-1)
    return all(
        np.array_equal(one[start : start + BLOCK], other[start : start + BLOCK]) for start in range(0, one.size, BLOCK)
    )
