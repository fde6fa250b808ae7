"""What one device does in an iteration, and what all devices made of it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32, Key

from epo_jax.epo.scorer import Candidates, Parents
from epo_jax.epo.search import DATA_AXIS, Search
from epo_jax.epo.select import restart_penalty
from epo_jax.epo.sharing import Units
from epo_jax.epo.state import Info, State

# Every draw is made from fold_in(key, iteration), split by use.
CHILDREN, RESTART = 0, 1
# Rows that a token of a prompt counts whose gradient is taken: forward, and a backward pass as dear as two.
GRADIENT_ROWS = 3
# In the place of the first token of a child that was not scored.
UNSCORED = -1

Device = int | Int32[Array, ""]


@dataclasses.dataclass(frozen=True)
class Work:
    """What one device does in an iteration: u parts of slots, each with n children.

    Attributes:
        units: the parts.
        numbers: int32[u, n], the children's; within bounds where nothing is to be made, too.
        dream: int32[u].
        slot: int32[u], within its dream.
        ids: int32[u, T], the parents.
        penalties: float32[u], in units of the feature.
        keys: of the iteration and the slots.
    """

    units: Units
    numbers: Int32[Array, "u n"]
    dream: Int32[Array, " u"]
    slot: Int32[Array, " u"]
    ids: Int32[Array, "u T"]
    penalties: Float32[Array, " u"]
    keys: Key[Array, " u"]


@dataclasses.dataclass(frozen=True)
class Children:
    """All dreams' children with their scores.

    Attributes:
        ids: int32[R, C, T].
        feature: float32[R, C].
        cross_entropy: float32[R, C], in nats/token.
        scored: bool[R, C].
        first_edit: int32[R, C].
        lengths: int32[R, C], tokens of each; None where all have as many.
    """

    ids: Int32[Array, "R C T"]
    feature: Float32[Array, "R C"]
    cross_entropy: Float32[Array, "R C"]
    scored: Bool[Array, "R C"]
    first_edit: Int32[Array, "R C"]
    lengths: Int32[Array, "R C"] | None

    @property
    def rows(self) -> Int32[Array, " R"]:
        """Tokens that were run for them, from their first edits on."""
        if self.lengths is None:
            rows = self.ids.shape[2] - self.first_edit
        else:
            # Of a prompt that was cut off at its end the last token is run again.
            rows = jnp.maximum(self.lengths - self.first_edit, 1)
        return jnp.where(self.scored, rows, 0).sum(axis=1, dtype=jnp.int32)


def penalties_of(search: Search, state: State) -> Float32[Array, "R P"]:
    """The penalty of each slot in units of the feature: the grid's, or that times the slope of the frontier."""
    unit = search.scales(state.iteration.shape[0])
    if search.guide is not None and search.guide.follows and state.memory is not None:
        unit = state.memory.slope()
    return unit[:, None] * search.penalties


def work_of(search: Search, device: Device, state: State) -> Work:
    """What a device does, given its number."""
    units = search.sharing.of(device)
    dream, slot = units.slot // search.population, units.slot % search.population
    key = iteration_keys(state)[dream]
    return Work(
        units=units,
        numbers=jnp.minimum(units.numbers, search.children - 1),
        dream=dream,
        slot=slot,
        ids=state.ids.reshape(-1, search.length)[units.slot],
        penalties=penalties_of(search, state)[dream, slot],
        keys=jax.vmap(lambda one, slot: jax.random.fold_in(jax.random.fold_in(one, CHILDREN), slot))(key, slot),
    )


def iteration_keys(state: State) -> Key[Array, " R"]:
    """The key of each dream's next iteration."""
    return jax.vmap(jax.random.fold_in)(state.key, state.iteration + 1)


def restart_penalties(search: Search, state: State) -> Float32[Array, " R"]:
    """The penalty that the next iteration's restart draws for each dream; NaN where there is none."""
    keys = jax.vmap(lambda one: jax.random.fold_in(one, RESTART))(iteration_keys(state))
    draw = jax.vmap(restart_penalty, (0, 0, None, None))
    return draw(keys, state.iteration + 1, search.restart_every, search.restart_bounds)


def given_children(search: Search, work: Work, ids: Int32[Array, "R C T"]) -> Int32[Array, "u n T"]:
    """A device's share of children that the caller chose."""
    return ids.reshape(search.sharing.slots, search.children, -1)[work.units.slot[:, None], work.numbers]


def scored_children(
    search: Search,
    work: Work,
    state: State,
    new: Int32[Array, "u n T"],
    parents: Parents,
) -> Children:
    """All dreams' children with their scores; each device scores its share, and only ids and scores travel.

    Args:
        search: the search.
        work: of this device.
        state: whose members are the parents.
        new: this device's children; those that begin with `UNSCORED`, or have no place, are left out.
        parents: what evaluation reuses.
    """
    count, each = work.numbers.shape
    made = work.units.used & (new[..., 0] != UNSCORED)
    new = jnp.where(made[..., None], new, work.ids[:, None])
    edits = first_edits(new, work.ids[:, None])
    which = jnp.repeat(jnp.arange(count, dtype=jnp.int32), each)
    new = new.reshape(-1, search.length)
    candidates = Candidates(search.filled(new), which, jnp.repeat(work.dream, each))
    lengths = search.own_lengths(new)
    lengths = jnp.where(made.reshape(-1), search.length if lengths is None else lengths, 0).astype(jnp.int32)
    scores = search.scorer.evaluate(parents, candidates, edits.reshape(-1), lengths)
    ids = jnp.where(made.reshape(-1, 1), new, UNSCORED)
    ids, feature, cross_entropy = (together(search, part) for part in (ids, scores.feature, scores.cross_entropy))
    # What was not scored is no number, which is worse than everything.
    scored = ids[..., 0] != UNSCORED
    feature, cross_entropy = (jnp.where(scored, score, jnp.nan) for score in (feature, cross_entropy))
    # Found anew, so that it need not travel.
    edits = first_edits(ids, jnp.repeat(state.ids, search.children, axis=1))
    return Children(ids, feature, cross_entropy, scored, edits, search.own_lengths(ids))


def first_edits(ids: Int32[Array, "*n T"], parents: Int32[Array, "*#n T"]) -> Int32[Array, "*n"]:
    """The first position at which prompts differ from their parents; 0 where there is none."""
    return (ids != parents).argmax(axis=-1).astype(jnp.int32)


def together(search: Search, array: Array) -> Array:
    """What all devices made for their children, [u * n, ...], as [R, C, ...]."""
    if search.mesh is not None:
        array = jax.lax.all_gather(array, DATA_AXIS, tiled=True)
    return search.sharing.together(array).reshape(search.dreams or 1, -1, *array.shape[1:])


def of_slots(search: Search, array: Float32[Array, "u T V"]) -> Float32[Array, "R P T V"]:
    """What all devices found of their parents, of which several may have one."""
    if search.mesh is not None:
        array = jax.lax.all_gather(array, DATA_AXIS, tiled=True)
    sharing = search.sharing
    each = array[: sharing.slots * sharing.parts : sharing.parts]
    return each.reshape(-1, search.population, *array.shape[1:])


def no_info(search: Search, dreams: int) -> Info:
    """What stands where no iteration was made."""
    count = search.population * search.children
    return Info(
        iteration=jnp.zeros(dreams, jnp.int32),
        ids=jnp.zeros((dreams, count, search.length), jnp.int32),
        feature=jnp.zeros((dreams, count), jnp.float32),
        cross_entropy=jnp.zeros((dreams, count), jnp.float32),
        scored=jnp.zeros((dreams, count), jnp.bool_),
        rows=jnp.zeros(dreams, jnp.int32),
        selected=jnp.zeros((dreams, search.population), jnp.int32),
        restart_penalty=jnp.full(dreams, jnp.nan, jnp.float32),
    )
