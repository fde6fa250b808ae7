"""How a slot's children are shared among operators and positions, by the success that those before had."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32

from epo_jax.epo.guide import SUCCESS, Guide, Memory

# Children taken per row run that an operator or position is taken to have had before anything is known of it, and over
# how many rows; a slot of its own is taken to have had the rate of all slots over so many rows.
RATE, ROWS = 0.005, 200.0
# The least share of each of n operators or positions is this over n, so that it can prove itself later.
LEAST_SHARE = 0.3


def operator_shares(
    guide: Guide, memory: Memory, lengths: Int32[Array, "R P"] | None = None
) -> Float32[Array, "R P O"]:
    """The share of each operator among a slot's children, by its children taken per row run.

    Args:
        guide: settings.
        memory: of what was tried.
        lengths: tokens of each slot's member; None where all have T.
    """
    rows = _rows(memory.tried.shape[-1], lengths)
    rows = (memory.tried * (rows if lengths is None else rows[:, :, None])).sum(axis=-1)
    rate = _rates(memory.won.sum(axis=-1), rows)
    rate = rate / rate.mean(axis=-1, keepdims=True)
    return _at_least(guide.shares * rate**guide.adaptation, guide.shares > 0)


def position_shares(
    guide: Guide, memory: Memory, movable: Bool[Array, " T"] | None, lengths: Int32[Array, "R P"] | None = None
) -> Float32[Array, "R P T"]:
    """How likely a slot's edits start at each position, by children taken per row run; uniform if that is asked for.

    Args:
        guide: settings.
        memory: of what was tried.
        movable: bool[T], positions that may be edited; None for all.
        lengths: tokens of each slot's member, behind which no edit starts; None where all have T.
    """
    length = memory.tried.shape[-1]
    free = jnp.ones(length, jnp.bool_) if movable is None else movable
    if lengths is not None:
        free = free & (jnp.arange(length) < lengths[..., None])
    if guide.positions != SUCCESS:
        rate = jnp.ones((*memory.tried.shape[:2], length), jnp.float32)
    else:
        rate = _rates(memory.won.sum(axis=2), memory.tried.sum(axis=2) * _rows(length, lengths))
    return _at_least(jnp.where(free, rate, 0.0), free)


def _rates(won: Float32[Array, "R P n"], rows: Float32[Array, "R P n"]) -> Float32[Array, "R P n"]:
    """Children taken per row run, of each slot, those of which little is known being drawn to that of all slots."""
    every = (won.sum(axis=1) + RATE * ROWS) / (rows.sum(axis=1) + ROWS)
    return (won + ROWS * every[:, None]) / (rows + ROWS)


def _rows(length: int, lengths: Int32[Array, "R P"] | None) -> Float32[Array, "*slots T"]:
    """Rows that a child costs by its first edit, if it has as many tokens as the slot's member."""
    place = jnp.arange(length, dtype=jnp.float32)
    return length - place if lengths is None else jnp.maximum(lengths[..., None] - place, 1)


def _at_least(weights: Float32[Array, "... n"], free: Bool[Array, "... n"]) -> Float32[Array, "... n"]:
    """Shares that sum to 1, none of those that are free below the least one."""
    shares = weights / weights.sum(axis=-1, keepdims=True)
    shares = jnp.where(free, jnp.maximum(shares, LEAST_SHARE / weights.shape[-1]), 0.0)
    return shares / shares.sum(axis=-1, keepdims=True)
