"""Parameters that several devices hold parts of, put together where they are used.

While a search runs on fully sharded weights, each device along the mesh's axis `data` sees its own part of a parameter,
smaller than the configuration says; that is how parts are told from wholes.
"""

from __future__ import annotations

import jax
from jax import Array
from jax.sharding import PartitionSpec
from jaxtyping import Float

from epo_jax.parallel.mesh import DATA, MODEL


def whole(part: Float[Array, "..."], shape: tuple[int, ...], over_model: PartitionSpec) -> Float[Array, "..."]:
    """A parameter, put together from the parts that devices along the axis of the data hold.

    Args:
        part: this device's; it may be the whole already, and then is given back.
        shape: of the whole.
        over_model: which of its dimensions lies over the axis of the model, as it goes on doing.
    """
    if part.shape == shape:
        return part
    (axis,) = (axis for axis, size in enumerate(part.shape) if size != shape[axis])

    def gather(part: Float[Array, "..."]) -> Float[Array, "..."]:
        return jax.lax.all_gather(part, DATA, axis=axis, tiled=True)

    if MODEL in over_model:
        # Left to the compiler, the other axis would be put together first.
        gather = jax.shard_map(gather, in_specs=over_model, out_specs=over_model, axis_names={MODEL}, check_vma=False)
    return gather(part)
