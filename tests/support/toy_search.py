"""A search without a language model, whose scores can be told from a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.config import BEST, EPOConfig
from epo_jax.epo import Algorithm, Candidates, Info, Scores, State
from epo_jax.epo.guide import guide_of
from epo_jax.epo.objective import penalty_grid

# The toy has no model whose samples a search could begin with.
WITHOUT_STARTS = {"model_starts": 0, "random_starts": 0, "beam": False, "beginnings": 1}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tables:
    """A toy scorer: feature = weight * sum of table[t, id], cross_entropy = mean of surprise[t, id], exact gradients.

    Each dream has a weight of its own. Places without a candidate score 1000, so that using them is seen. The log-
    probabilities that a guided search asks for are the negative surprises, whose sum is not 1.
    """

    table: Float32[Array, "T V"]
    surprise: Float32[Array, "T V"]
    weight: Float32[Array, " R"]

    def gradients(
        self,
        ids: Int32[Array, "N T"],
        penalties: Float32[Array, " N"],
        dream: Int32[Array, " N"],
        length: Int32[Array, " N"] | None = None,
    ) -> tuple[Array, Array]:
        weight, penalty = self.weight[dream][:, None, None], penalties[:, None, None]
        if length is None:
            return weight * self.table - penalty * self.surprise / len(self.table), ids
        length = length[:, None, None]
        there = jnp.arange(len(self.table))[:, None] < length
        return jnp.where(there, weight * self.table - penalty * self.surprise / length, 0), ids

    @property
    def first_scored(self) -> int:
        return 0

    def parents(
        self, ids: Int32[Array, "N T"], dream: Int32[Array, " N"], length: Int32[Array, " N"] | None = None
    ) -> Array:
        return ids

    def log_probs(self, parents: Array) -> Array:
        return jnp.broadcast_to(-self.surprise, (len(parents), *self.surprise.shape))

    def evaluate(self, parents: Array | None, candidates: Candidates, first_edit: Array, length: Array) -> Scores:
        at = jnp.arange(len(self.table))
        there = at < length[:, None]
        feature = self.weight[candidates.dream] * jnp.where(there, self.table[at, candidates.ids], 0).sum(axis=-1)
        surprise = jnp.where(there, self.surprise[at, candidates.ids], 0).sum(axis=-1) / jnp.maximum(length, 1)
        return Scores(jnp.where(length > 0, feature, 1000), jnp.where(length > 0, surprise, -1000))


def make_toy(
    seed: int = 0,
    population: int = 4,
    children: int = 6,
    length: int = 5,
    vocabulary: int = 23,
    top_k: int = 7,
    banned: tuple[int, ...] = (0, 3),
    bounds: tuple[float, float] = (0.1, 10.0),
    restart_every: int = 0,
    restart_bounds: tuple[float, float] = (2 / 3, 6.0),
    weights: tuple[float, ...] | None = None,
    mesh: jax.sharding.Mesh | None = None,
    iterations: int = 20,
    options: Mapping[str, Any] | None = None,
) -> Algorithm:
    """A search over the toy, as `build` makes one over a language model; a guided one where options are given."""
    config = None
    if options is not None:
        config = EPOConfig(iterations, population, children, length, search=BEST, **{**WITHOUT_STARTS, **options})
    table_key, surprise_key = jax.random.split(jax.random.key(seed))
    allowed = jnp.ones(vocabulary, bool).at[jnp.asarray(banned, jnp.int32)].set(False)
    return Algorithm(
        scorer=Tables(
            jax.random.normal(table_key, (length, vocabulary)),
            jax.random.uniform(surprise_key, (length, vocabulary), maxval=9.0),
            jnp.asarray(weights or (1.0,), jnp.float32),
        ),
        penalties=penalty_grid(*bounds, population),
        allowed=allowed,
        restart_every=jnp.int32(restart_every),
        restart_bounds=jnp.asarray(restart_bounds, jnp.float32),
        population=population,
        children=children,
        length=length,
        top_k=min(top_k, vocabulary - len(set(banned))),
        dreams=None if weights is None else len(weights),
        mesh=mesh,
        guide=None if config is None else guide_of(config),
    )


def trajectory(algorithm: Algorithm, run: int, steps: int) -> list[tuple[State, Info, State]]:
    """(state before, info, state after) of each step."""
    state, made = algorithm.init(jax.random.key(run)), []
    for _ in range(steps):
        new, info = algorithm.step(state)
        made.append((state, info, new))
        state = new
    return made


def first_edits(before: State, info: Info) -> np.ndarray:
    """Where each child begins to differ from its parent."""
    parents = np.repeat(np.asarray(before.ids), len(info.ids) // len(before.ids), axis=0)
    return (np.asarray(info.ids) != parents).argmax(axis=1)


def scored_ids(info: Info) -> np.ndarray:
    """The children that were scored."""
    return np.asarray(info.ids)[np.asarray(info.scored)]
