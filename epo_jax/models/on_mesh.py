"""Models on the devices of a mesh."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Float

from epo_jax.models.config import DecoderConfig
from epo_jax.models.decoder import abstract_decoder
from epo_jax.models.language_model import LanguageModel
from epo_jax.parallel.mesh import make_mesh
from epo_jax.parallel.placing import placed
from epo_jax.parallel.sharding import describe, layout


def on_mesh(lm: LanguageModel, mesh: Mesh | None, fsdp: bool = False) -> LanguageModel:
    """The model with its parameters on the devices of a mesh; itself where it lies there already, in whichever way.

    Args:
        lm: the model, on one device or on another mesh.
        mesh: the devices; None for those that it lies on.
        fsdp: whether parameters lie over the axis `data` too.
    """
    if mesh is None or lm.mesh == mesh:
        return lm
    lies = layout(lm.config, mesh, fsdp)
    graphdef, abstract = abstract_decoder(lies.config)
    where = lies.on(mesh)
    shapes = {path: variable.get_value().shape for path, variable in nnx.to_flat_state(abstract)}
    flat = []
    for path, variable in nnx.to_flat_state(lm.params):
        array = resized(variable.get_value(), shapes[path])
        flat.append((path, variable.replace(placed(array, where(".".join(map(str, path)), shapes[path])))))
    return dataclasses.replace(lm, graphdef=graphdef, params=nnx.from_flat_state(flat), config=lies.config)


def resized(array: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """An array with other room: what only fills it up is left out or added, zeros behind each dimension's own."""
    if array.shape == shape:
        return array
    kept = array[tuple(slice(size) for size in shape)]
    return jnp.pad(kept, [(0, size - here) for here, size in zip(kept.shape, shape, strict=True)])


def mesh_for(mesh: Mesh | str | None, config: DecoderConfig, fsdp: bool = False) -> Mesh | None:
    """The mesh that is asked for, by its text too, for a model.

    Raises:
        EpoError: a text that names none.
    """
    if not isinstance(mesh, str):
        return mesh
    return make_mesh(mesh, weights=lambda sizes: weight_bytes(config, sizes, fsdp))


def weight_bytes(config: DecoderConfig, mesh: Mesh | AbstractMesh, fsdp: bool = False) -> int:
    """Bytes of parameters on each device of a mesh."""
    lies = layout(config, mesh, fsdp)
    total = 0
    for path, variable in nnx.to_flat_state(abstract_decoder(lies.config)[1]):
        one = variable.get_value()
        total += math.prod(lies.part(".".join(map(str, path)), one.shape)) * one.dtype.itemsize
    return total


def told_of(lm: LanguageModel) -> str:
    """How a model lies on its devices, in one line; empty where it lies whole on each."""
    return "" if lm.mesh is None else describe(layout(lm.config, lm.mesh, lm.fsdp))
