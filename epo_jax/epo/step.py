"""The functions that make an iteration, on one device, to be traced; states always have the axis R of dreams.

An iteration is proposed (gradients, and edits drawn by them), scored, and selected from. Where the caller looks at the
children in between, it is two programs, and several alternatives are drawn for each child. Searches with a guide
propose and remember in another way, in `guided`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int32, Key

from epo_jax.epo import guided, slots
from epo_jax.epo.groups import in_groups
from epo_jax.epo.guide import Scored, first_memory
from epo_jax.epo.mutate import Proposals, make_children, random_prompts, top_tokens
from epo_jax.epo.scorer import Candidates, Parents, Scores
from epo_jax.epo.search import MODEL_AXIS, Search
from epo_jax.epo.select import select
from epo_jax.epo.state import Alternatives, Info, Proposed, State
from epo_jax.epo.work import (
    GRADIENT_ROWS,
    UNSCORED,
    Children,
    Device,
    Work,
    given_children,
    no_info,
    penalties_of,
    restart_penalties,
    scored_children,
    together,
    work_of,
)

# Alternatives that are drawn for each child at a time.
ALTERNATIVES = 8


def random_ids(search: Search, key: Key[Array, " R"]) -> Int32[Array, "R n T"]:
    """Random initial prompts, one for each slot and beginning."""
    start = jax.vmap(lambda one: jax.random.fold_in(one, 0))(key)
    draw = random_prompts if search.automaton is None else search.automaton.random_prompts
    count = search.population * (1 if search.guide is None else search.guide.beginnings)
    return jax.vmap(lambda one: draw(one, search.allowed, count, search.length))(start)


def initial(search: Search, key: Key[Array, " R"], ids: Int32[Array, "R n T"] | None) -> State:
    """`Algorithm.init`."""
    if ids is None:
        ids = random_ids(search, key)
    scores = scores_of(search, ids)
    # A copy, since the state's memory is given away and the caller's key is the caller's.
    key, iteration = jnp.copy(key), jnp.zeros(len(ids), jnp.int32)
    every = Scored(ids, scores.feature, scores.cross_entropy)
    first, waiting = (
        jax.tree.map(lambda values, part=part: values[:, part], every)
        for part in (slice(search.population), slice(search.population, None))
    )
    memory = None
    if search.guide is not None:
        memory = first_memory(search.guide, first, waiting, search.allowed.shape[0])
    return State(first.ids, first.feature, first.cross_entropy, iteration, key, memory)


def best_of(search: Search, _: Device, ids: Int32[Array, "R N T"]) -> Int32[Array, "R P T"]:
    """`Algorithm.best_of`; every device finds the same."""
    return slots.best_of(search, ids, scores_of(search, ids))


def scores_of(search: Search, ids: Int32[Array, "R N T"]) -> Scores:
    """Scores [R, N] of whole prompts."""
    dreams, count, length = ids.shape
    nobody = jnp.zeros(dreams * count, jnp.int32)
    ids = ids.reshape(-1, length)
    lengths = search.own_lengths(ids)
    prompts = Candidates(search.filled(ids), nobody, jnp.repeat(jnp.arange(dreams, dtype=jnp.int32), count))
    scores = search.scorer.evaluate(
        None, prompts, nobody, jnp.full_like(nobody, length) if lengths is None else lengths
    )
    return jax.tree.map(lambda values: values.reshape(dreams, count), scores)


def iterate(search: Search, device: Device, state: State) -> tuple[State, Info]:
    """`Algorithm.step`."""
    work = work_of(search, device, state)
    if search.guide is not None:
        edits, parents, gradient = guided.edits_of(search, work, state)
        new, operator = guided.chosen(search, work, state, edits, 1)
        children = guided.once(search, together(search, new.reshape(-1, search.length)))
        made = scored_children(search, work, state, given_children(search, work, children), parents)
        return guided.selected(search, state, made, together(search, operator.reshape(-1)), gradient)
    proposals, parents = _gradients(search, work)
    new, _ = make_children(work.keys, work.ids, proposals, work.numbers)
    new = jnp.where(proposals.any_usable[:, None, None], new, UNSCORED)
    return _selected(search, state, scored_children(search, work, state, new, parents))


def propose(search: Search, device: Device, state: State) -> tuple[Proposed, Alternatives]:
    """`Algorithm.propose`."""
    work = work_of(search, device, state)
    if search.guide is not None:
        edits, parents, gradient = guided.edits_of(search, work, state)
        new, operator = guided.chosen(search, work, state, edits, search.guide.oversample)
        ids = together(search, new.reshape(-1, *new.shape[2:]))
        return Proposed(gradient, parents), Alternatives(ids, together(search, operator.reshape(-1)))
    proposed = Proposed(*_gradients(search, work))
    return proposed, _alternatives(search, work, proposed.proposals, 0)


def redraw(
    search: Search, device: Device, state: State, proposed: Proposed, first: int | Int32[Array, ""]
) -> Alternatives:
    """`Algorithm.redraw`."""
    return _alternatives(search, work_of(search, device, state), proposed.proposals, first)


def finish(
    search: Search,
    device: Device,
    state: State,
    proposed: Proposed,
    ids: Int32[Array, "R C T"],
    operator: Int32[Array, "R C"] | None,
) -> tuple[State, Info]:
    """`Algorithm.finish`."""
    work = work_of(search, device, state)
    ids = ids if operator is None else guided.once(search, ids)
    made = scored_children(search, work, state, given_children(search, work, ids), proposed.parents)
    if operator is None:
        return _selected(search, state, made)
    return guided.selected(search, state, made, operator, proposed.proposals)


def advance(search: Search, device: Device, state: State, steps: Int32[Array, ""], capacity: int) -> tuple[State, Info]:
    """`Algorithm.advance`."""
    nothing = no_info(search, state.iteration.shape[0])

    def maybe(state: State, number: Int32[Array, ""]) -> tuple[State, Info]:
        return jax.lax.cond(
            number < steps, functools.partial(iterate, search, device), lambda same: (same, nothing), state
        )

    return jax.lax.scan(maybe, state, jnp.arange(capacity))


def _gradients(search: Search, work: Work) -> tuple[Proposals, Parents]:
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


def _alternatives(search: Search, work: Work, proposals: Proposals, first: int | Int32[Array, ""]) -> Alternatives:
    def draw(number: Int32[Array, ""]) -> Int32[Array, "u n T"]:
        return make_children(work.keys, work.ids, proposals, work.numbers, jnp.full_like(work.numbers, number))[0]

    ids = jax.vmap(draw, out_axes=2)(first + jnp.arange(ALTERNATIVES, dtype=jnp.int32))
    ids = jnp.where(proposals.any_usable[:, None, None, None], ids, UNSCORED)
    return Alternatives(together(search, ids.reshape(-1, *ids.shape[2:])), None)


def _selected(search: Search, state: State, made: Children) -> tuple[State, Info]:
    iteration = state.iteration + 1
    # The parents' scores are those that they were selected under: the gradient pass computes others, equal but for
    # rounding, and taking those could let a slot's objective fall.
    pool = Scores(
        jnp.concatenate([state.feature, made.feature], axis=1),
        jnp.concatenate([state.cross_entropy, made.cross_entropy], axis=1),
    )
    restart = restart_penalties(search, state)
    # What is best for feature / scale - penalty * cross_entropy is so for feature - scale * penalty * cross_entropy.
    scale = search.scales(state.iteration.shape[0])
    selected = jax.vmap(select)(pool, penalties_of(search, state), scale * restart)
    ids = jnp.take_along_axis(jnp.concatenate([state.ids, made.ids], axis=1), selected[..., None], axis=1)
    kept = jax.tree.map(lambda values: jnp.take_along_axis(values, selected, axis=1), pool)
    new = State(ids, kept.feature, kept.cross_entropy, iteration, state.key)
    told = (made.ids, made.feature, made.cross_entropy, made.scored)
    rows = made.rows + GRADIENT_ROWS * search.population * search.length
    return new, Info(iteration, *told, rows, selected, restart)
