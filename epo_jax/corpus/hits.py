"""The strongest hits of many features so far, and histograms of all their activations; kept on the device."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Float32, Int, Int32

# Bins are eighths of octaves of the absolute value, from 2**-12 to 2**12, for each sign; what is smaller shares one.
_STEPS, _LOWEST, _HIGHEST = 8, -12, 12
_SIDE = _STEPS * (_HIGHEST - _LOWEST)
BINS = 2 * _SIDE + 1
# float32 has 23 bits of mantissa, of which three tell the step within an octave.
_SHIFT, _BIAS = 20, 127


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hits:
    """The best positions of F features, one of each window at most, strongest first, earliest first among equals.

    Attributes:
        activation: float32[F, K]; minus infinity where there were not so many.
        window: int32[F, K], number of the window in the corpus; -1 likewise.
        position: int32[F, K], in the window.
        histogram: int32[F, BINS], all activations that were seen, see `bin_of`.
    """

    activation: Float32[Array | np.ndarray, "*R F K"]
    window: Int32[Array | np.ndarray, "*R F K"]
    position: Int32[Array | np.ndarray, "*R F K"]
    histogram: Int[Array | np.ndarray, "*R F bins"]


def no_hits(shape: tuple[int, ...], keep: int) -> Hits:
    """Before anything was seen. `shape` ends in the number of features."""
    full = (*shape, keep)
    return Hits(
        jnp.full(full, -jnp.inf, jnp.float32),
        jnp.full(full, -1, jnp.int32),
        jnp.zeros(full, jnp.int32),
        jnp.zeros((*shape, BINS), jnp.int32),
    )


def absorb(hits: Hits, values: Float[Array, "B S F"], counts: Bool[Array, "B S"], windows: Int32[Array, " B"]) -> Hits:
    """The hits after some more windows, which come later in the corpus than all before.

    Args:
        hits: of F features.
        values: their activations at each position.
        counts: the positions that do.
        windows: int32[B], ascending numbers.
    """
    values = values.astype(jnp.float32)
    shown = jnp.where(counts[:, :, None], values, -jnp.inf)
    best = shown.max(axis=1)
    position = shown.argmax(axis=1).astype(jnp.int32)
    number = jnp.where(best > -jnp.inf, windows[:, None], -1)
    activation = jnp.concatenate([hits.activation, best.T], axis=1)
    # Equal ones keep their order, so that the earliest window stays.
    activation, chosen = jax.lax.top_k(activation, hits.activation.shape[1])

    def of(kept: Array | np.ndarray, new: Array) -> Array:
        return jnp.take_along_axis(jnp.concatenate([kept, new.T], axis=1), chosen, axis=1)

    return Hits(
        activation,
        of(hits.window, number),
        of(hits.position, position),
        _counted(hits.histogram, values, counts),
    )


def _counted(
    histogram: Int[Array | np.ndarray, "F bins"], values: Float32[Array, "B S F"], counts: Bool[Array, "B S"]
) -> Int32[Array, "F bins"]:
    features = values.shape[-1]
    # One flat index for each activation: several times faster on a CPU than pairs.
    place = bin_of(values) + jnp.arange(features) * BINS
    add = jnp.broadcast_to(counts[:, :, None], values.shape).astype(jnp.int32)
    flat = jnp.asarray(histogram).reshape(-1).at[place.reshape(-1)].add(add.reshape(-1), mode="promise_in_bounds")
    return flat.reshape(histogram.shape)


def bin_of(values: Float32[Array, "*shape"]) -> Int32[Array, "*shape"]:
    """The bin of each activation, ascending with it: 0 to `BINS` - 1; what is too large is in the outermost."""
    bits = jax.lax.bitcast_convert_type(jnp.abs(values), jnp.int32) >> _SHIFT
    step = jnp.clip(bits - ((_BIAS + _LOWEST) * _STEPS) + 1, 0, _SIDE)
    return jnp.where(values < 0, _SIDE - step, _SIDE + step)


def bin_edges() -> Float32[np.ndarray, " edges"]:
    """The `BINS` + 1 edges between which bins lie, ascending; the first and the last are not reached by all.

    Within an octave the steps are equal, as the mantissa's bits count.
    """
    octaves = np.exp2(np.arange(_LOWEST, _HIGHEST, dtype=np.float32))
    upper = (octaves[:, None] * (1 + np.arange(_STEPS, dtype=np.float32) / _STEPS)).reshape(-1)
    upper = np.append(upper, np.float32(2.0**_HIGHEST))
    return np.concatenate([-upper[::-1], upper])


def merged(parts: Hits) -> Hits:
    """The hits of several devices, whose arrays have a leading axis, as numpy arrays of one."""
    activation, window, position = (
        np.concatenate(list(np.asarray(getattr(parts, name))), axis=-1) for name in ("activation", "window", "position")
    )
    keep = parts.activation.shape[-1]
    # Strongest first, of equal ones the earliest window.
    order = np.lexsort((np.where(window < 0, np.iinfo(np.int32).max, window), -activation), axis=-1)[..., :keep]

    def of(array: np.ndarray) -> np.ndarray:
        return np.take_along_axis(array, order, axis=-1)

    histogram = np.asarray(parts.histogram).astype(np.int64).sum(axis=0)
    return Hits(of(activation), of(window), of(position), histogram)


def percentiles(
    histogram: Int[np.ndarray, "F bins"], maximum: Float32[np.ndarray, " F"], at: tuple[float, ...]
) -> Float32[np.ndarray, "F n"]:
    """Percentiles of activations: linear within a bin, so within an eighth of an octave of the exact ones.

    Args:
        histogram: counts.
        maximum: the largest activation of each feature, above which none lies.
        at: percentages.
    """
    edges = bin_edges().astype(np.float64)
    below = np.cumsum(histogram, axis=1)
    total = below[:, -1:]
    found = np.full((len(histogram), len(at)), np.nan, np.float32)
    for column, percentage in enumerate(at):
        rank = total[:, 0] * (percentage / 100)
        where = np.minimum((below < rank[:, None]).sum(axis=1), histogram.shape[1] - 1)
        row = np.arange(len(histogram))
        count = np.maximum(histogram[row, where], 1)
        share = np.clip((rank - (below[row, where] - histogram[row, where])) / count, 0, 1)
        value = edges[where] + share * (edges[where + 1] - edges[where])
        found[:, column] = np.where(total[:, 0] > 0, np.minimum(value, maximum), np.nan)
    return found
