"""Tokens that stand in a prompt more than once: a model finds them likely, and a reader does not."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Int32


def repeated(ids: Int32[Array, "*N T"]) -> Int32[Array, "*N"]:
    """How many of a prompt's tokens stand in it before."""
    in_order = jnp.sort(ids, axis=-1)
    return (in_order[..., 1:] == in_order[..., :-1]).sum(axis=-1, dtype=jnp.int32)
