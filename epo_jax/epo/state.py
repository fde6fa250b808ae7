"""The state of a search, and what a step tells of itself. A leading axis *R appears where several are stacked."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax import Array
from jaxtyping import Bool, Float32, Int32, Key

from epo_jax.epo.guide import Memory
from epo_jax.epo.scorer import Parents


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The members of the population, slot by slot.

    Attributes:
        ids: int32[P, T], the member in each slot, with pads behind its last token if it has fewer.
        feature: float32[P], the value that it was selected under.
        cross_entropy: float32[P], in nats/token, likewise.
        iteration: steps made so far; 0 after the initial prompts were scored.
        key: what all randomness is a function of.
        memory: what a guided search remembers; None in the paper's.
    """

    ids: Int32[Array, "*R P T"]
    feature: Float32[Array, "*R P"]
    cross_entropy: Float32[Array, "*R P"]
    iteration: Int32[Array, "*R"]
    key: Key[Array, "*R"]
    memory: Memory | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Info:
    """What was scored in one iteration, and what was kept of it.

    Attributes:
        iteration: its number, from 1.
        ids: int32[C, T], the children, slot by slot, likewise.
        feature: float32[C].
        cross_entropy: float32[C], in nats/token.
        scored: bool[C]; False for children that could not be made, whose ids and scores mean nothing.
        rows: int32, tokens run through the model: the parents', thrice where their gradients were taken, and the
            children's from their first edit on.
        selected: int32[P], for each slot the index of its new member in the pool of P parents and C children.
        restart_penalty: the penalty that a restart drew; NaN where there was none.
    """

    iteration: Int32[Array, "*R"]
    ids: Int32[Array, "*R C T"]
    feature: Float32[Array, "*R C"]
    cross_entropy: Float32[Array, "*R C"]
    scored: Bool[Array, "*R C"]
    rows: Int32[Array, "*R"]
    selected: Int32[Array, "*R P"]
    restart_penalty: Float32[Array, "*R"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Proposed:
    """What the first half of an iteration left, for the slots that each device has.

    Attributes:
        proposals: what further alternatives are drawn from; of a search with a guide, which has no more, the gradients
            that are to be remembered, or None.
        parents: what evaluation reuses of them.
    """

    proposals: Any
    parents: Parents


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Alternatives:
    """Prompts that were drawn for each child, of which one is to be chosen: each by itself is a fair draw.

    Attributes:
        ids: int32[C, a, T]; -1 in the place of one that could not be made.
        operator: int32[C], the number of the operator that made them, in a guided search.
    """

    ids: Int32[Array, "*R C a T"]
    operator: Int32[Array, "*R C"] | None
