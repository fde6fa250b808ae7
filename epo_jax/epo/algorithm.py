"""Evolutionary Prompt Optimization (arXiv 2402.01702) as data and pure functions.

An `Algorithm` is a pytree: parameters, features and settings are leaves, shapes are static. Its methods hand it to
jitted functions of this module, so that two algorithms of one shape share one compilation.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.axes import PRNGKey, Prompts, Slots, Vocabulary
from epo_jax.epo.mutate import make_children, random_prompts, top_tokens
from epo_jax.epo.scorer import Candidates, Scorer, Scores
from epo_jax.epo.select import restart_penalty, select
from epo_jax.epo.state import Info, State

STATIC = {"static": True}
# Every draw is made from fold_in(key, iteration), split by use.
CHILDREN, RESTART = 0, 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A search that is ready to start.

    Attributes:
        scorer: gives gradients and scores.
        penalties: float32[P], the fluency penalty of each slot.
        allowed: bool[V], tokens that the search may use.
        restart_every: iterations between restarts; 0 means never.
        restart_bounds: float32[2], least and greatest penalty that a restart draws.
        population: slots (P).
        children: new prompts per slot in an iteration.
        length: optimized tokens (T).
        top_k: tokens kept per position (K), at most those allowed.
    """

    scorer: Scorer
    penalties: Slots
    allowed: Vocabulary
    restart_every: Int32[Array, ""]
    restart_bounds: Float32[Array, "2"]
    population: int = dataclasses.field(metadata=STATIC)
    children: int = dataclasses.field(metadata=STATIC)
    length: int = dataclasses.field(metadata=STATIC)
    top_k: int = dataclasses.field(metadata=STATIC)

    def init(self, key: PRNGKey, ids: Prompts | None = None) -> State:
        """The scored initial population.

        Args:
            key: what all of the run's randomness is a function of.
            ids: int32[P, T] to start from; by default uniformly drawn allowed tokens.
        """
        return _init(self, key, ids)

    def step(self, state: State) -> tuple[State, Info]:
        """One iteration: gradients, children, scores, selection."""
        return _step(self, state)

    def advance(self, state: State, steps: int, capacity: int) -> tuple[State, Info]:
        """Several iterations on the device without a visit to the host.

        Args:
            state: where to start.
            steps: iterations to make, at most the capacity; traced, so that its value causes no compilation.
            capacity: rows of the returned infos, a leading axis; those from `steps` on are empty.
        """
        return _advance(self, state, jnp.int32(steps), capacity)


def initial(algorithm: Algorithm, key: PRNGKey, ids: Prompts | None) -> State:
    """`Algorithm.init` as a function to be traced."""
    if ids is None:
        start = jax.random.fold_in(key, 0)
        ids = random_prompts(start, algorithm.allowed, algorithm.population, algorithm.length)
    _, parents = algorithm.scorer.gradients(ids, algorithm.penalties)
    slots = jnp.arange(algorithm.population, dtype=jnp.int32)
    scores = _evaluate(algorithm, parents, Candidates(ids, slots), jnp.zeros_like(slots))
    return State(ids, scores.feature, scores.cross_entropy, jnp.int32(0), key)


def iterate(algorithm: Algorithm, state: State) -> tuple[State, Info]:
    """`Algorithm.step` as a function to be traced."""
    iteration = state.iteration + 1
    key = jax.random.fold_in(state.key, iteration)
    gradients, parents = algorithm.scorer.gradients(state.ids, algorithm.penalties)
    proposals = top_tokens(gradients, state.ids, algorithm.allowed, algorithm.top_k)
    candidates, edits = make_children(jax.random.fold_in(key, CHILDREN), state.ids, proposals, algorithm.children)
    scores = _evaluate(algorithm, parents, candidates, edits)
    # The parents' scores are those that they were selected under: the gradient pass computes others, equal but for
    # rounding, and taking those could let a slot's objective fall.
    pool = Scores(
        jnp.concatenate([state.feature, scores.feature]), jnp.concatenate([state.cross_entropy, scores.cross_entropy])
    )
    restart = restart_penalty(
        jax.random.fold_in(key, RESTART), iteration, algorithm.restart_every, algorithm.restart_bounds
    )
    selected = select(pool, algorithm.penalties, restart)
    ids = jnp.concatenate([state.ids, candidates.ids])[selected]
    new = State(ids, pool.feature[selected], pool.cross_entropy[selected], iteration, state.key)
    return new, Info(iteration, candidates.ids, scores.feature, scores.cross_entropy, selected, restart)


def _evaluate(algorithm: Algorithm, parents: object, candidates: Candidates, first_edit: Int32[Array, " C"]) -> Scores:
    lengths = jnp.full_like(first_edit, algorithm.length)
    return algorithm.scorer.evaluate(parents, candidates, first_edit, lengths)


_init = jax.jit(initial)
_step = jax.jit(iterate)


@functools.partial(jax.jit, static_argnames="capacity")
def _advance(algorithm: Algorithm, state: State, steps: Int32[Array, ""], capacity: int) -> tuple[State, Info]:
    count = algorithm.population * algorithm.children
    nothing = Info(
        iteration=jnp.int32(0),
        ids=jnp.zeros((count, algorithm.length), jnp.int32),
        feature=jnp.zeros(count, jnp.float32),
        cross_entropy=jnp.zeros(count, jnp.float32),
        selected=jnp.zeros(algorithm.population, jnp.int32),
        restart_penalty=jnp.float32(jnp.nan),
    )

    def maybe(state: State, number: Int32[Array, ""]) -> tuple[State, Info]:
        return jax.lax.cond(number < steps, functools.partial(iterate, algorithm), lambda same: (same, nothing), state)

    return jax.lax.scan(maybe, state, jnp.arange(capacity))
