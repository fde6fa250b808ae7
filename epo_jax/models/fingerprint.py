"""Fingerprints of weights and features, since a name is not a model."""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from epo_jax.models.language_model import LanguageModel
from epo_jax.parallel.placing import fetched

_UNSIGNED = {2: jnp.uint16, 4: jnp.uint32}


def weights_fingerprint(lm: LanguageModel) -> str:
    """Eight hexadecimal digits that tell a model from others of its name; the same on every mesh."""
    sums = np.asarray(fetched(_sums(tuple(jax.tree.leaves(lm.params)))))
    return f"{zlib.crc32(sums.tobytes()):08x}"


def numbers_fingerprint(tree: Any) -> str:
    """Eight hexadecimal digits of all arrays of a pytree, such as a feature."""
    checksum = 0
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(fetched(leaf))
        checksum = zlib.crc32(f"{array.dtype} {array.shape}".encode() + array.tobytes(), checksum)
    return f"{checksum:08x}"


@jax.jit
def _sums(leaves: tuple[jax.Array, ...]) -> UInt32[jax.Array, " n"]:
    """For each array the sum of a hash of its numbers' bits and places, modulo 2**32; zeros add nothing.

    So neither what fills an array up nor how it lies on devices counts.
    """
    return jnp.stack([_hashed(leaf) for leaf in leaves])


def _hashed(leaf: jax.Array) -> UInt32[jax.Array, ""]:
    bits = jax.lax.bitcast_convert_type(leaf, _UNSIGNED[leaf.dtype.itemsize]).astype(jnp.uint32)
    # Along each axis by itself, since a flat index changes where there is more room; odd, so that no bits are lost.
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis in range(leaf.ndim):
        place = _mixed(place + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis))
    return jnp.sum(_mixed(bits * (2 * place + 1)), dtype=jnp.uint32)


def _mixed(bits: UInt32[jax.Array, "..."]) -> UInt32[jax.Array, "..."]:
    bits = bits * jnp.uint32(0x9E3779B1)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA77)
    return bits ^ (bits >> 13)
