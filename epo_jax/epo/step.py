"""The functions that make an iteration, on one device, to be traced; states always have the axis R of dreams.

An iteration is proposed (gradients, and edits drawn by them), scored, and selected from. Where the caller looks at the
children in between, it is two programs, and several alternatives are drawn for each child.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32, Key

from epo_jax.epo.groups import in_groups
from epo_jax.epo.mutate import Proposals, draw_edits, make_children, random_prompts, top_tokens
from epo_jax.epo.scorer import Candidates, Parents, Scores
from epo_jax.epo.search import DATA_AXIS, MODEL_AXIS, Search
from epo_jax.epo.select import restart_penalty, select
from epo_jax.epo.sharing import Units
from epo_jax.epo.state import Alternatives, Info, Proposed, State

# Every draw is made from fold_in(key, iteration), split by use.
CHILDREN, RESTART = 0, 1
# Alternatives that are drawn for each child at a time.
ALTERNATIVES = 8
# In the place of the first token of a child that was not scored.
UNSCORED = -1

Device = int | Int32[Array, ""]


def random_ids(search: Search, key: Key[Array, " R"]) -> Int32[Array, "R P T"]:
    """Random initial prompts."""
    start = jax.vmap(lambda one: jax.random.fold_in(one, 0))(key)
    draw = random_prompts if search.automaton is None else search.automaton.random_prompts
    return jax.vmap(lambda one: draw(one, search.allowed, search.population, search.length))(start)


def initial(search: Search, key: Key[Array, " R"], ids: Int32[Array, "R P T"] | None) -> State:
    """`Algorithm.init`."""
    dreams, population, length = key.shape[0], search.population, search.length
    if ids is None:
        ids = random_ids(search, key)
    nobody = jnp.zeros(dreams * population, jnp.int32)
    dream = jnp.repeat(jnp.arange(dreams, dtype=jnp.int32), population)
    prompts = Candidates(ids.reshape(-1, length), nobody, dream)
    scores = search.scorer.evaluate(None, prompts, nobody, jnp.full_like(nobody, length))
    shape = (dreams, population)
    iteration = jnp.zeros(dreams, jnp.int32)
    # A copy, since the state's memory is given away and the caller's key is the caller's.
    return State(ids, scores.feature.reshape(shape), scores.cross_entropy.reshape(shape), iteration, jnp.copy(key))


def iterate(search: Search, device: Device, state: State) -> tuple[State, Info]:
    """`Algorithm.step`."""
    work = _work(search, device, state)
    return _selected(search, state, _children(search, work, *_gradients(search, work)))


def propose(search: Search, device: Device, state: State) -> tuple[Proposed, Alternatives]:
    """`Algorithm.propose`."""
    work = _work(search, device, state)
    proposed = Proposed(*_gradients(search, work))
    return proposed, _alternatives(search, work, proposed, 0)


def redraw(
    search: Search, device: Device, state: State, proposed: Proposed, first: int | Int32[Array, ""]
) -> Alternatives:
    """`Algorithm.redraw`."""
    return _alternatives(search, _work(search, device, state), proposed, first)


def finish(
    search: Search, device: Device, state: State, proposed: Proposed, choice: Int32[Array, "R C"]
) -> tuple[State, Info]:
    """`Algorithm.finish`."""
    work = _work(search, device, state)
    chosen = choice.reshape(search.sharing.slots, search.children)[work.units.slot[:, None], work.numbers]
    return _selected(search, state, _children(search, work, proposed.proposals, proposed.parents, chosen))


def advance(search: Search, device: Device, state: State, steps: Int32[Array, ""], capacity: int) -> tuple[State, Info]:
    """`Algorithm.advance`."""
    dreams, count = state.iteration.shape[0], search.population * search.children
    nothing = Info(
        iteration=jnp.zeros(dreams, jnp.int32),
        ids=jnp.zeros((dreams, count, search.length), jnp.int32),
        feature=jnp.zeros((dreams, count), jnp.float32),
        cross_entropy=jnp.zeros((dreams, count), jnp.float32),
        scored=jnp.zeros((dreams, count), jnp.bool_),
        first_edit=jnp.zeros((dreams, count), jnp.int32),
        selected=jnp.zeros((dreams, search.population), jnp.int32),
        restart_penalty=jnp.full(dreams, jnp.nan, jnp.float32),
    )

    def maybe(state: State, number: Int32[Array, ""]) -> tuple[State, Info]:
        return jax.lax.cond(
            number < steps, functools.partial(iterate, search, device), lambda same: (same, nothing), state
        )

    return jax.lax.scan(maybe, state, jnp.arange(capacity))


@dataclasses.dataclass(frozen=True)
class _Work:
    """What one device does in an iteration: u parts of slots, each with n children.

    Attributes:
        units: the parts.
        numbers: int32[u, n], the children's; within bounds where nothing is to be made, too.
        dream: int32[u].
        ids: int32[u, T], the parents.
        penalties: float32[u], in units of the feature.
        keys: of the iteration and the slots.
    """

    units: Units
    numbers: Int32[Array, "u n"]
    dream: Int32[Array, " u"]
    ids: Int32[Array, "u T"]
    penalties: Float32[Array, " u"]
    keys: Key[Array, " u"]


def _work(search: Search, device: Device, state: State) -> _Work:
    units = search.sharing.of(device)
    dream, slot = units.slot // search.population, units.slot % search.population
    key = _keys(state)[dream]
    return _Work(
        units=units,
        numbers=jnp.minimum(units.numbers, search.children - 1),
        dream=dream,
        ids=state.ids.reshape(-1, search.length)[units.slot],
        penalties=search.scales(state.iteration.shape[0])[dream] * search.penalties[slot],
        keys=jax.vmap(lambda one, slot: jax.random.fold_in(jax.random.fold_in(one, CHILDREN), slot))(key, slot),
    )


def _keys(state: State) -> Key[Array, " R"]:
    return jax.vmap(jax.random.fold_in)(state.key, state.iteration + 1)


def _gradients(search: Search, work: _Work) -> tuple[Proposals, Parents]:
    def group(part: tuple[Array, Array, Array]) -> tuple[Proposals, Parents]:
        gradients, parents = search.scorer.gradients(*part)
        usable, shared = _usable(search, part[0]), search.model_parts
        return top_tokens(gradients, part[0], usable, search.top_k, shared, MODEL_AXIS if shared > 1 else None), parents

    return in_groups(group, (work.ids, work.penalties, work.dream), search.gradients_at_once or work.ids.shape[0])


def _usable(search: Search, ids: Int32[Array, "N T"]) -> Bool[Array, "*N V"]:
    """Tokens that may stand at each position."""
    usable = search.allowed
    if search.automaton is not None:
        usable = usable & search.automaton.usable(ids)
    if search.movable is not None:
        usable = usable & search.movable[:, None]
    return usable


def _alternatives(search: Search, work: _Work, proposed: Proposed, first: int | Int32[Array, ""]) -> Alternatives:
    def draw(number: Int32[Array, ""]) -> tuple[Int32[Array, "u n"], Int32[Array, "u n"]]:
        return draw_edits(work.keys, proposed.proposals, work.numbers, jnp.full_like(work.numbers, number))

    edits = jax.vmap(draw, out_axes=-1)(first + jnp.arange(ALTERNATIVES, dtype=jnp.int32))
    possible = proposed.proposals.any_usable[:, None, None]
    positions, tokens = (_together(search, jnp.where(possible, edit, -1).reshape(-1, ALTERNATIVES)) for edit in edits)
    return Alternatives(positions, tokens)


@dataclasses.dataclass(frozen=True)
class _Children:
    ids: Int32[Array, "R C T"]
    feature: Float32[Array, "R C"]
    cross_entropy: Float32[Array, "R C"]
    scored: Bool[Array, "R C"]
    first_edit: Int32[Array, "R C"]


def _children(
    search: Search, work: _Work, proposals: Proposals, parents: Parents, chosen: Int32[Array, "u n"] | None = None
) -> _Children:
    """All dreams' children with their scores; each device makes its share, and only ids and scores travel."""
    length = search.length
    made = work.units.used & proposals.any_usable[:, None]
    if chosen is not None:
        made, chosen = made & (chosen >= 0), jnp.maximum(chosen, 0)
    new, edits = make_children(work.keys, work.ids, proposals, work.numbers, chosen)
    count, each = work.numbers.shape
    which = jnp.repeat(jnp.arange(count, dtype=jnp.int32), each)
    candidates = Candidates(new.reshape(-1, length), which, jnp.repeat(work.dream, each))
    lengths = jnp.where(made.reshape(-1), length, 0).astype(jnp.int32)
    scores = search.scorer.evaluate(parents, candidates, edits.reshape(-1), lengths)
    ids = jnp.where(made.reshape(-1, 1), candidates.ids, UNSCORED)
    parts = (ids, scores.feature, scores.cross_entropy, edits.reshape(-1))
    ids, feature, cross_entropy, first_edit = (_together(search, part) for part in parts)
    # What was not scored is no number, which is worse than everything.
    scored = ids[..., 0] != UNSCORED
    feature, cross_entropy = (jnp.where(scored, score, jnp.nan) for score in (feature, cross_entropy))
    return _Children(ids, feature, cross_entropy, scored, first_edit)


def _together(search: Search, array: Array) -> Array:
    """What all devices made for their children, [u * n, ...], as [R, C, ...]."""
    if search.mesh is not None:
        array = jax.lax.all_gather(array, DATA_AXIS, tiled=True)
    return search.sharing.together(array).reshape(search.dreams or 1, -1, *array.shape[1:])


def _selected(search: Search, state: State, made: _Children) -> tuple[State, Info]:
    iteration = state.iteration + 1
    # The parents' scores are those that they were selected under: the gradient pass computes others, equal but for
    # rounding, and taking those could let a slot's objective fall.
    pool = Scores(
        jnp.concatenate([state.feature, made.feature], axis=1),
        jnp.concatenate([state.cross_entropy, made.cross_entropy], axis=1),
    )
    restart = jax.vmap(restart_penalty, (0, 0, None, None))(
        jax.vmap(lambda one: jax.random.fold_in(one, RESTART))(_keys(state)),
        iteration,
        search.restart_every,
        search.restart_bounds,
    )
    # What is best for feature / scale - penalty * cross_entropy is so for feature - scale * penalty * cross_entropy.
    scale = search.scales(state.iteration.shape[0])
    selected = jax.vmap(select)(pool, scale[:, None] * search.penalties, scale * restart)
    ids = jnp.take_along_axis(jnp.concatenate([state.ids, made.ids], axis=1), selected[..., None], axis=1)
    kept = jax.tree.map(lambda values: jnp.take_along_axis(values, selected, axis=1), pool)
    new = State(ids, kept.feature, kept.cross_entropy, iteration, state.key)
    told = (made.ids, made.feature, made.cross_entropy, made.scored, made.first_edit)
    return new, Info(iteration, *told, selected, restart)
