"""Rotary positions: heads turned by angles that grow with the position."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Int, Int32

from epo_jax.models.config import Rotary


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Turns:
    """Cosines and sines of the angles by which each component of a head is turned, for each way of turning.

    Component i pairs with i + rotary_dim / 2.
    """

    cos: Float32[Array, "*rows ways rotary_dim"]
    sin: Float32[Array, "*rows ways rotary_dim"]

    def of(self, way: Int32[Array, ""]) -> Turns:
        """Those of one way."""
        if self.cos.shape[-2] == 1:
            return self
        cos, sin = (jax.lax.dynamic_slice_in_dim(a, way, 1, axis=-2) for a in (self.cos, self.sin))
        return Turns(cos, sin)

    def turn(self, x: Float[Array, "*rows heads head_dim"]) -> Float[Array, "*rows heads head_dim"]:
        """Turn the first rotary_dim components of heads, given the turns of a single way."""
        if not self.cos.shape[-1]:
            return x
        turning, staying = jnp.split(x, [self.cos.shape[-1]], axis=-1)
        first, second = jnp.split(turning.astype(jnp.float32), 2, axis=-1)
        across = jnp.concatenate([-second, first], axis=-1)
        turned = (turning * self.cos + across * self.sin).astype(x.dtype)
        return jnp.concatenate([turned, staying], axis=-1)


def turns_at(rotary: tuple[Rotary, ...], positions: Int[Array, "*rows"]) -> Turns:
    """The turns at some positions, in each of some ways."""
    # Without any, heads stay as they are.
    ways = rotary or (Rotary(()),)
    frequencies = jnp.asarray(np.asarray([way.frequencies for way in ways], np.float32))
    factors = jnp.asarray(np.asarray([way.factor for way in ways], np.float32))[:, None]
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    angles = jnp.concatenate([angles, angles], axis=-1)
    return Turns(factors * jnp.cos(angles), factors * jnp.sin(angles))


def frequencies_of(theta: float, dimensions: int) -> tuple[float, ...]:
    """Frequencies of a head of so many turning components: theta ** (-2i / dimensions)."""
    exponents = np.arange(0, dimensions, 2, dtype=np.float64) / dimensions
    return tuple((float(theta) ** -exponents).tolist())
