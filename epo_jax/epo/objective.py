"""Equation 1 of the paper, and the penalties that slots hold."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from epo_jax.axes import Slots


def objective(
    feature: Float32[jax.Array, "..."], cross_entropy: Float32[jax.Array, "..."], penalty: Float32[jax.Array, "..."]
) -> Float32[jax.Array, "..."]:
    """Equation 1: feature - penalty * cross_entropy. What is not a number is worse than everything."""
    value = feature - penalty * cross_entropy
    return jnp.where(jnp.isnan(value), -jnp.inf, value)


def penalty_grid(least: float, greatest: float, population: int) -> Slots:
    """One fluency penalty per slot, uniform in the logarithm; equal bounds give a constant grid, 0 allowed.

    Returns:
        float32[P]; the least penalty alone where P is 1.
    """
    if least == greatest or population == 1:
        return jnp.full(population, least, jnp.float32)
    return jnp.asarray(np.geomspace(least, greatest, population), jnp.float32)
