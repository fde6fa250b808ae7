"""Work in groups, one after the other, so that the memory of one group is enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def in_groups(function: Callable[[Any], Any], arrays: Any, size: int) -> Any:
    """Apply a function to groups of at most `size` rows.

    Args:
        function: maps a pytree of arrays with a leading axis to another one, row by row.
        arrays: the pytree for all rows.
        size: the most rows of a group; groups are as even as they can be.

    Returns:
        The function's results for all rows.
    """
    count = jax.tree.leaves(arrays)[0].shape[0]
    groups = -(-count // size)
    if groups == 1:
        return function(arrays)
    even = -(-count // groups)
    # The last group is filled up with copies of the first row, whose results are dropped.
    padded = jax.tree.map(
        lambda a: jnp.concatenate([a, jnp.broadcast_to(a[:1], (groups * even - count, *a.shape[1:]))]), arrays
    )
    results = jax.lax.map(function, jax.tree.map(lambda a: a.reshape(groups, even, *a.shape[1:]), padded))
    return jax.tree.map(lambda a: a.reshape(groups * even, *a.shape[2:])[:count], results)
