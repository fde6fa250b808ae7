"""Dreams of one feature that differ: what a prompt loses for tokens that dreams before it hold."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32


def shared_share(
    members: Int32[Array, "R P T"], group: Int32[Array, " R"], ids: Int32[Array, "R N T"], vocabulary: int
) -> Float32[Array, "R N"]:
    """The share of each prompt's tokens that a member of an earlier dream of the same group holds, at any place.

    Args:
        members: of each dream's population; tokens below 0 are none.
        group: equal numbers for dreams that are to differ.
        ids: prompts of each dream; tokens below 0 are none.
        vocabulary: tokens that there are.
    """
    dreams = len(members)

    def holds(own: Int32[Array, "P T"]) -> Bool[Array, " V"]:
        # What is none goes to a place beyond the last one.
        places = jnp.where(own < 0, vocabulary, own).reshape(-1)
        return jnp.zeros(vocabulary, jnp.bool_).at[places].set(True, mode="drop")

    held = jax.vmap(holds)(members)
    number = jnp.arange(dreams)
    earlier = (group[:, None] == group) & (number < number[:, None])
    used = jax.vmap(lambda before: (held & before[:, None]).any(axis=0))(earlier)
    found = jax.vmap(lambda own, prompts: own[jnp.maximum(prompts, 0)])(used, ids)
    there = ids >= 0
    shared = (found & there).sum(axis=-1, dtype=jnp.float32)
    return shared / jnp.maximum(there.sum(axis=-1), 1)
