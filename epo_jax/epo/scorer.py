"""The two functions that a search needs."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.axes import Prompts, Slots

Parents = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """Prompts to be scored.

    Attributes:
        ids: int32[C, T].
        parent: int32[C], the slot whose member each was made from.
    """

    ids: Int32[Array, "*R C T"]
    parent: Int32[Array, "*R C"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of prompts.

    Attributes:
        feature: float32[C].
        cross_entropy: float32[C], mean nats per scored token.
    """

    feature: Float32[Array, "*R C"]
    cross_entropy: Float32[Array, "*R C"]


@runtime_checkable
class Scorer(Protocol):
    """A pytree that gives gradients and scores of prompts."""

    def gradients(self, ids: Prompts, penalties: Slots) -> tuple[Float32[Array, "P T V"], Parents]:
        """Gradient of each slot's objective, under the slot's own penalty, with respect to its one-hot tokens.

        The second value is what `evaluate` may reuse of the parents; opaque to the search.
        """
        ...

    def evaluate(
        self,
        parents: Parents,
        candidates: Candidates,
        first_edit: Int32[Array, " C"],
        length: Int32[Array, " C"],
    ) -> Scores:
        """Score candidates.

        Args:
            parents: what `gradients` left of the prompts that the candidates were made from.
            candidates: the prompts, each with its parent.
            first_edit: the first position at which a candidate may differ from its parent.
            length: optimized tokens of each candidate, at most T.
        """
        ...
