"""Which prompts were scored before, as a Bloom filter on the device.

A prompt that was is always known. Of those that were not, a few per cent are taken for known ones when the filter holds
as many as it was made for.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int32, UInt32

# Places of the filter for each prompt that it may have to hold; with two of them taken by each prompt, at most
# (1 - exp(-2 / 8)) ** 2 = 5% of new prompts are taken for known ones, and that in the last iteration alone.
PLACES_PER_PROMPT = 8
MOST_PLACES = 2**22


def places_for(prompts: int) -> int:
    """Places of a filter for so many prompts, a power of two."""
    return min(MOST_PLACES, 1 << max(6, (PLACES_PER_PROMPT * prompts - 1).bit_length()))


def hashes(ids: Int32[Array, "*n T"]) -> UInt32[Array, "*n 2"]:
    """Two independent 32-bit hashes of each prompt."""
    length = ids.shape[-1]
    odd = (2 * jnp.arange(2 * length, dtype=jnp.uint32).reshape(2, length) + 1) * jnp.uint32(0x9E3779B1)
    tokens = ids.astype(jnp.uint32)[..., None, :] + 1
    return _mixed(_mixed(tokens * odd).sum(axis=-1, dtype=jnp.uint32))


def remember(filled: Bool[Array, " M"], ids: Int32[Array, "N T"], used: Bool[Array, " N"]) -> Bool[Array, " M"]:
    """The filter after it was told of prompts, those that are used."""
    # What is not used goes to a place beyond the last one.
    places = jnp.where(used[:, None], _places(filled, ids), len(filled))
    return filled.at[places.reshape(-1)].set(True, mode="drop")


def known(filled: Bool[Array, " M"], ids: Int32[Array, "*n T"]) -> Bool[Array, "*n"]:
    """Which prompts it was told of."""
    return filled[_places(filled, ids)].all(axis=-1)


def _places(filled: Bool[Array, " M"], ids: Int32[Array, "*n T"]) -> Int32[Array, "*n 2"]:
    return (hashes(ids) % jnp.uint32(len(filled))).astype(jnp.int32)


def _mixed(number: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32 bits in which each bit of the result hangs on all bits (the constants are MurmurHash3's)."""
    number = (number ^ (number >> 16)) * jnp.uint32(0x85EBCA6B)
    number = (number ^ (number >> 13)) * jnp.uint32(0xC2B2AE35)
    return number ^ (number >> 16)
