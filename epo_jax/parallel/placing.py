"""Arrays that lie on the devices of several processes: put there from any host, and fetched to all of them."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

Tree = TypeVar("Tree")


def placed(tree: Tree, lies: Sharding | Any) -> Tree:
    """A pytree of arrays, laid on devices.

    Where devices belong to several processes, each process brings the same whole arrays, and puts the parts of its own
    devices there; nothing travels between them (`jax.device_put` would compare the arrays of all, or refuse them).

    Args:
        tree: arrays of the host, of devices of this process, or of those that `lies` names.
        lies: how they lie; one for all, or a pytree of such.
    """
    if isinstance(lies, Sharding):
        one = lies
        return jax.tree.map(lambda leaf: _placed(leaf, one), tree)
    return jax.tree.map(_placed, tree, lies)


def on_devices(mesh: Mesh | None, tree: Tree, spec: PartitionSpec | None = None) -> Tree:
    """A pytree of arrays of the host on the devices of a mesh, or on the default one.

    Args:
        mesh: None for none.
        tree: the same on each process.
        spec: how the arrays lie on the mesh; None for whole on every device.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    return placed(tree, NamedSharding(mesh, PartitionSpec() if spec is None else spec))


def fetched(tree: Any) -> Any:
    """The same pytree as whole NumPy arrays, on every process; all processes must ask for it."""
    return jax.device_get(jax.tree.map(_whole, tree))


def _placed(leaf: Any, lies: Sharding) -> jax.Array:
    here = not (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable)
    if lies.is_fully_addressable or not here:
        return jax.device_put(leaf, lies)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _placed(jax.random.key_data(leaf), lies)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    whole = np.asarray(jax.device_get(leaf))
    # One by one, since JAX's own call for that is a transfer that nobody asked for to its guard.
    places = lies.addressable_devices_indices_map(whole.shape)
    parts = [jax.device_put(whole[part], device) for device, part in places.items()]
    return jax.make_array_from_single_device_arrays(whole.shape, lies, parts)


def _whole(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    if not isinstance(leaf.sharding, NamedSharding):
        raise TypeError(f"an array of several processes lies as {leaf.sharding}, where a NamedSharding is read")
    return jax.device_put(leaf, NamedSharding(leaf.sharding.mesh, PartitionSpec()))
