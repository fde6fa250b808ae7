"""Evolutionary Prompt Optimization (arXiv 2402.01702) as data and pure functions.

An `Algorithm` is a pytree: parameters, features and settings are leaves, shapes are static. Its methods hand it to
jitted functions of this module, so that two algorithms of one shape share one compilation. It may run several dreams,
which share everything but their features and keys; inside, states always have the axis R of dreams.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32, Int32, Key

from epo_jax.axes import Slots, Vocabulary
from epo_jax.epo.groups import in_groups
from epo_jax.epo.mutate import Proposals, make_children, random_prompts, top_tokens
from epo_jax.epo.scorer import Candidates, Parents, Scorer, Scores
from epo_jax.epo.select import restart_penalty, select
from epo_jax.epo.sharing import Sharing
from epo_jax.epo.state import Info, State

STATIC = {"static": True}
DATA_AXIS = "data"
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
        dreams: searches advanced together (R), whose states and infos have a leading axis; None for one without it.
        gradients_at_once: prompts whose gradients are in memory at one time; None for all.
        mesh: devices that share slots and children, along its axis "data"; None for one device.
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
    dreams: int | None = dataclasses.field(default=None, metadata=STATIC)
    gradients_at_once: int | None = dataclasses.field(default=None, metadata=STATIC)
    mesh: Mesh | None = dataclasses.field(default=None, metadata=STATIC)

    def init(self, key: Key[Array, "*R"], ids: Int32[Array, "*#R P T"] | None = None) -> State:
        """The scored initial population.

        Args:
            key: what all of the run's randomness is a function of; one for each dream.
            ids: int32[P, T] to start from, or one such array for each dream; by default uniformly drawn allowed tokens.
        """
        return _init(self, key, ids)

    def step(self, state: State) -> tuple[State, Info]:
        """One iteration: gradients, children, scores, selection."""
        return _step(self, state)

    def advance(self, state: State, steps: int | Int32[Array, ""], capacity: int) -> tuple[State, Info]:
        """Several iterations on the device without a visit to the host.

        Args:
            state: where to start; its memory is given to the new state, so that it cannot be used again.
            steps: iterations to make, at most the capacity; traced, so that its value causes no compilation.
            capacity: rows of the returned infos, a leading axis; those from `steps` on are empty.
        """
        return _advance(self, state, self._placed(steps), capacity)

    def trace_advance(self, state: State, capacity: int) -> jax.stages.Traced:
        """What `advance` runs for these shapes, to be lowered and compiled ahead of time; nothing is given away."""
        return _advance.trace(self, state, self._placed(1), capacity)

    def _placed(self, steps: int | Int32[Array, ""]) -> Int32[Array, ""]:
        # Asked for here, since inside the jitted call it would be a transfer that nobody asked for.
        if isinstance(steps, Array):
            return steps
        everywhere = None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec())
        return jax.device_put(np.int32(steps), everywhere)

    @property
    def sharing(self) -> Sharing:
        """How slots and children are shared among the devices."""
        devices = 1 if self.mesh is None else self.mesh.shape[DATA_AXIS]
        return Sharing((self.dreams or 1) * self.population, self.children, devices)


def initial(algorithm: Algorithm, key: Key[Array, " R"], ids: Int32[Array, "R P T"] | None) -> State:
    """`Algorithm.init` on one device, as a function to be traced."""
    dreams, population, length = key.shape[0], algorithm.population, algorithm.length
    if ids is None:
        start = jax.vmap(lambda one: jax.random.fold_in(one, 0))(key)
        ids = jax.vmap(lambda one: random_prompts(one, algorithm.allowed, population, length))(start)
    nobody = jnp.zeros(dreams * population, jnp.int32)
    dream = jnp.repeat(jnp.arange(dreams, dtype=jnp.int32), population)
    prompts = Candidates(ids.reshape(-1, length), nobody, dream)
    scores = algorithm.scorer.evaluate(None, prompts, nobody, jnp.full_like(nobody, length))
    shape = (dreams, population)
    iteration = jnp.zeros(dreams, jnp.int32)
    # A copy, since the state's memory is given away and the caller's key is the caller's.
    return State(ids, scores.feature.reshape(shape), scores.cross_entropy.reshape(shape), iteration, jnp.copy(key))


def iterate(algorithm: Algorithm, device: int | Int32[Array, ""], state: State) -> tuple[State, Info]:
    """`Algorithm.step` on one of the devices, as a function to be traced."""
    iteration = state.iteration + 1
    key = jax.vmap(jax.random.fold_in)(state.key, iteration)
    made = _children(algorithm, device, key, state.ids)
    # The parents' scores are those that they were selected under: the gradient pass computes others, equal but for
    # rounding, and taking those could let a slot's objective fall.
    pool = Scores(
        jnp.concatenate([state.feature, made.feature], axis=1),
        jnp.concatenate([state.cross_entropy, made.cross_entropy], axis=1),
    )
    restart = jax.vmap(restart_penalty, (0, 0, None, None))(
        jax.vmap(lambda one: jax.random.fold_in(one, RESTART))(key),
        iteration,
        algorithm.restart_every,
        algorithm.restart_bounds,
    )
    selected = jax.vmap(select, (0, None, 0))(pool, algorithm.penalties, restart)
    ids = jnp.take_along_axis(jnp.concatenate([state.ids, made.ids], axis=1), selected[..., None], axis=1)
    kept = jax.tree.map(lambda values: jnp.take_along_axis(values, selected, axis=1), pool)
    new = State(ids, kept.feature, kept.cross_entropy, iteration, state.key)
    return new, Info(iteration, made.ids, made.feature, made.cross_entropy, selected, restart)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Children:
    ids: Int32[Array, "R C T"]
    feature: Float32[Array, "R C"]
    cross_entropy: Float32[Array, "R C"]


def _children(
    algorithm: Algorithm, device: int | Int32[Array, ""], key: Key[Array, " R"], ids: Int32[Array, "R P T"]
) -> _Children:
    """All dreams' children with their scores; each device makes its share, and only these three arrays travel."""
    sharing, length = algorithm.sharing, algorithm.length
    units = sharing.of(device)
    dream, slot = units.slot // algorithm.population, units.slot % algorithm.population
    own = ids.reshape(-1, length)[units.slot]
    proposals, parents = _gradients(algorithm, own, algorithm.penalties[slot], dream)
    keys = jax.vmap(lambda one, slot: jax.random.fold_in(jax.random.fold_in(one, CHILDREN), slot))(key[dream], slot)
    new, edits = make_children(keys, own, proposals, units.numbers)
    each = units.numbers.shape[1]
    which = jnp.repeat(jnp.arange(sharing.units, dtype=jnp.int32), each)
    candidates = Candidates(new.reshape(-1, length), which, jnp.repeat(dream, each))
    lengths = jnp.where(units.used.reshape(-1), length, 0).astype(jnp.int32)
    scores = algorithm.scorer.evaluate(parents, candidates, edits.reshape(-1), lengths)
    made = (candidates.ids, scores.feature, scores.cross_entropy)
    if algorithm.mesh is not None:
        made = jax.tree.map(lambda a: jax.lax.all_gather(a, DATA_AXIS, tiled=True), made)
    dreams = key.shape[0]
    return _Children(*(a.reshape(dreams, -1, *a.shape[2:]) for a in map(sharing.together, made)))


def _gradients(
    algorithm: Algorithm, ids: Int32[Array, "N T"], penalties: Float32[Array, " N"], dream: Int32[Array, " N"]
) -> tuple[Proposals, Parents]:
    def group(part: tuple[Array, Array, Array]) -> tuple[Proposals, Parents]:
        gradients, parents = algorithm.scorer.gradients(*part)
        return top_tokens(gradients, part[0], algorithm.allowed, algorithm.top_k), parents

    return in_groups(group, (ids, penalties, dream), algorithm.gradients_at_once or ids.shape[0])


def _advanced(
    algorithm: Algorithm, device: int | Int32[Array, ""], state: State, steps: Int32[Array, ""], capacity: int
) -> tuple[State, Info]:
    dreams, count = state.iteration.shape[0], algorithm.population * algorithm.children
    nothing = Info(
        iteration=jnp.zeros(dreams, jnp.int32),
        ids=jnp.zeros((dreams, count, algorithm.length), jnp.int32),
        feature=jnp.zeros((dreams, count), jnp.float32),
        cross_entropy=jnp.zeros((dreams, count), jnp.float32),
        selected=jnp.zeros((dreams, algorithm.population), jnp.int32),
        restart_penalty=jnp.full(dreams, jnp.nan, jnp.float32),
    )

    def maybe(state: State, number: Int32[Array, ""]) -> tuple[State, Info]:
        return jax.lax.cond(
            number < steps, functools.partial(iterate, algorithm, device), lambda same: (same, nothing), state
        )

    return jax.lax.scan(maybe, state, jnp.arange(capacity))


def _everywhere(algorithm: Algorithm, function: Any, *arguments: Any) -> Any:
    """Call a function of (algorithm, device, ...) on each device of the mesh, whole copies in and out."""
    if algorithm.mesh is None:
        return function(algorithm, 0, *arguments)

    def local(algorithm: Algorithm, *arguments: Any) -> Any:
        return function(algorithm, jax.lax.axis_index(DATA_AXIS), *arguments)

    whole = PartitionSpec()
    return jax.shard_map(
        local, mesh=algorithm.mesh, in_specs=whole, out_specs=whole, axis_names={DATA_AXIS}, check_vma=False
    )(algorithm, *arguments)


def _stacked(algorithm: Algorithm, tree: Any) -> Any:
    return tree if algorithm.dreams is not None else jax.tree.map(lambda leaf: leaf[None], tree)


def _plain(algorithm: Algorithm, tree: Any, axis: int = 0) -> Any:
    return tree if algorithm.dreams is not None else jax.tree.map(lambda leaf: jnp.squeeze(leaf, axis), tree)


@jax.jit
def _init(algorithm: Algorithm, key: Key[Array, "*R"], ids: Int32[Array, "*#R P T"] | None) -> State:
    keys = _stacked(algorithm, key)
    if ids is not None:
        ids = jnp.broadcast_to(ids, (keys.shape[0], algorithm.population, algorithm.length))
    state = _everywhere(algorithm, lambda algorithm, _, *rest: initial(algorithm, *rest), keys, ids)
    return _plain(algorithm, state)


@jax.jit
def _step(algorithm: Algorithm, state: State) -> tuple[State, Info]:
    return _plain(algorithm, _everywhere(algorithm, iterate, _stacked(algorithm, state)))


@functools.partial(jax.jit, static_argnames="capacity", donate_argnames="state")
def _advance(algorithm: Algorithm, state: State, steps: Int32[Array, ""], capacity: int) -> tuple[State, Info]:
    advanced = functools.partial(_advanced, capacity=capacity)
    state, infos = _everywhere(algorithm, advanced, _stacked(algorithm, state), steps)
    return _plain(algorithm, state), _plain(algorithm, infos, axis=1)
