"""The two functions that a search needs."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
from jax import Array
from jaxtyping import Float32, Int32

Parents = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """Prompts to be scored.

    Attributes:
        ids: int32[C, T].
        parent: int32[C], which of the prompts given to `gradients` each was made from.
        dream: int32[C], the search that each belongs to: which of several features it is scored by.
    """

    ids: Int32[Array, "C T"]
    parent: Int32[Array, " C"]
    dream: Int32[Array, " C"]


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
    """A pytree that gives gradients and scores of prompts; one may serve the prompts of several searches together."""

    def gradients(
        self,
        ids: Int32[Array, "N T"],
        penalties: Float32[Array, " N"],
        dream: Int32[Array, " N"],
        length: Int32[Array, " N"] | None = None,
    ) -> tuple[Float32[Array, "N T V"], Parents]:
        """Gradient of each prompt's objective, under its own penalty, with respect to its one-hot tokens.

        Of a prompt that has fewer than T tokens, as `length` says, the others are left out, and their gradient is 0.
        The second value is what `evaluate` may reuse of the prompts: a pytree of arrays with a leading axis N, opaque
        to the search.
        """
        ...

    def evaluate(
        self,
        parents: Parents | None,
        candidates: Candidates,
        first_edit: Int32[Array, " C"],
        length: Int32[Array, " C"],
    ) -> Scores:
        """Score candidates.

        Args:
            parents: what `gradients` left of the prompts that the candidates were made from; None where there are none,
                and then the candidates are scored from their first token on.
            candidates: the prompts, each with its parent.
            first_edit: the first position at which a candidate may differ from its parent.
            length: optimized tokens of each candidate, at most T; 0 marks a place that holds no candidate, whose scores
                mean nothing.
        """
        ...


@runtime_checkable
class GuidingScorer(Scorer, Protocol):
    """What a search with a guide needs beside that."""

    @property
    def first_scored(self) -> int:
        """The first optimized token that has a predecessor."""
        ...

    def parents(
        self, ids: Int32[Array, "N T"], dream: Int32[Array, " N"], length: Int32[Array, " N"] | None = None
    ) -> Parents:
        """What `evaluate` may reuse of prompts, as `gradients` leaves it, by a forward pass alone."""
        ...

    def log_probs(self, parents: Parents) -> Float32[Array, "N T V"]:
        """Log-probability of every token at each position of prompts, given the tokens before; 0 before `first_scored`.

        Of a prompt that has fewer than T tokens the place behind its last is told too; what follows means nothing.
        The vocabulary may be filled up behind the tokens that a search may use.
        """
        ...
