"""The state of a search, and what a step tells of itself. A leading axis *R appears where several are stacked."""

from __future__ import annotations

import dataclasses

import jax
from jax import Array
from jaxtyping import Float32, Int32, Key


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The members of the population, slot by slot.

    Attributes:
        ids: int32[P, T], the member in each slot.
        feature: float32[P], the value that it was selected under.
        cross_entropy: float32[P], in nats/token, likewise.
        iteration: steps made so far; 0 after the initial prompts were scored.
        key: what all randomness is a function of.
    """

    ids: Int32[Array, "*R P T"]
    feature: Float32[Array, "*R P"]
    cross_entropy: Float32[Array, "*R P"]
    iteration: Int32[Array, "*R"]
    key: Key[Array, "*R"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Info:
    """What was scored in one iteration, and what was kept of it.

    Attributes:
        iteration: its number, from 1.
        ids: int32[C, T], the children, slot by slot.
        feature: float32[C].
        cross_entropy: float32[C], in nats/token.
        selected: int32[P], for each slot the index of its new member in the pool of P parents and C children.
        restart_penalty: the penalty that a restart drew; NaN where there was none.
    """

    iteration: Int32[Array, "*R"]
    ids: Int32[Array, "*R C T"]
    feature: Float32[Array, "*R C"]
    cross_entropy: Float32[Array, "*R C"]
    selected: Int32[Array, "*R P"]
    restart_penalty: Float32[Array, "*R"]
