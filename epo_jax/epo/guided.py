"""What a search with a guide does otherwise than the paper's: how children are made and chosen, and what is remembered.

Several operators propose several times more edits than are run. What is known of an edit before it is run, the change
of its new token's own surprisal, chooses among them; prompts that were scored before are left out. Which operators and
positions get how many children follows from how often theirs were taken by a slot.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32, Key

from epo_jax.axes import PRNGKey
from epo_jax.epo import archive
from epo_jax.epo.diversity import shared_share
from epo_jax.epo.groups import in_groups
from epo_jax.epo.guide import GRADIENT, WIDTH, Guide, Memory, Scored, range_of, with_children, with_range
from epo_jax.epo.lengths import PAD, told_apart, whole
from epo_jax.epo.operators import OPERATORS, Edits, Parent
from epo_jax.epo.repetition import repeated
from epo_jax.epo.scorer import Parents, Scores
from epo_jax.epo.search import Search
from epo_jax.epo.shares import operator_shares, position_shares
from epo_jax.epo.slots import best_for_slots, takes
from epo_jax.epo.state import Info, State
from epo_jax.epo.work import GRADIENT_ROWS, UNSCORED, Children, Work, of_slots, penalties_of

# Draws of an iteration and slot beside those of the operators, which have the numbers from 0 on.
OPERATOR, CHOICE = 1000, 1001


def edits_of(search: Search, work: Work, state: State) -> tuple[Edits, Parents, Float32[Array, "u T V"] | None]:
    """What each operator makes of a device's parents.

    Returns:
        Edits [u, O, m, ...], m of each operator, what evaluation reuses of the parents, and the gradients that are to
        be remembered of them, if any are.
    """
    guide, memory = _guided(search, state)
    count = guide.oversample * search.children
    lengths = search.own_lengths(state.ids)
    positions = position_shares(guide, memory, search.movable, lengths)[work.dream, work.slot]
    kept = guide.kept_at(state.iteration)[work.dream]
    first = search.guiding.first_scored
    nat = _weight(search, work.slot) / ((search.length if lengths is None else lengths[work.dream, work.slot]) - first)
    earlier = None
    if memory.gradient is not None:
        # What is no number is forgotten.
        earlier = jnp.nan_to_num(memory.gradient[work.dream, work.slot], nan=0.0, posinf=0.0, neginf=0.0)
        earlier = guide.momentum * earlier

    def group(part: tuple[Any, ...]) -> tuple[Edits, Parents, Float32[Array, "u T V"] | None]:
        ids, penalties, dream, keys, positions, kept, nat, earlier = part
        gradient, size = None, search.allowed.shape[0]
        given, own = search.filled(ids), search.own_lengths(ids)
        if guide.reads_gradient:
            gradient, parents = search.scorer.gradients(given, penalties, dream, own)
            gradient = gradient[..., :size] if earlier is None else gradient[..., :size] + earlier
        else:
            parents = search.guiding.parents(given, dream, own)
        log_probs = search.guiding.log_probs(parents)[..., :size]
        if guide.positions == GRADIENT and gradient is not None:
            positions = positions * jnp.linalg.norm(jnp.where(search.allowed, gradient, 0.0), axis=-1)
            positions = positions / positions.sum(axis=-1, keepdims=True)

        def of_one(
            key: PRNGKey,
            ids: Array,
            log_probs: Array,
            gradient: Array | None,
            positions: Array,
            dream: Array,
            kept: Array,
            nat: Array,
        ) -> Edits:
            mates = state.ids[dream]
            parent = Parent(
                *(ids, log_probs, gradient, search.allowed, positions, mates, nat, kept),
                least_length=guide.least_length,
                first_scored=first,
            )
            edits = [
                OPERATORS[name].propose(parent, jax.random.fold_in(key, number), count)
                for number, name in enumerate(guide.operators)
            ]
            return jax.tree.map(lambda *each: jnp.stack(each), *edits)

        axes = (0, 0, 0, None if gradient is None else 0, 0, 0, 0, 0)
        edits = jax.vmap(of_one, axes)(keys, ids, log_probs, gradient, positions, dream, kept, nat)
        return edits, parents, None if earlier is None else gradient

    arrays = (work.ids, work.penalties, work.dream, work.keys, positions, kept, nat, earlier)
    return in_groups(group, arrays, search.gradients_at_once or work.ids.shape[0])


def chosen(
    search: Search, work: Work, state: State, edits: Edits, alternatives: int
) -> tuple[Int32[Array, "u n a T"], Int32[Array, "u n"]]:
    """Edits for each of a device's children: the best of its operator's, each edit once.

    Args:
        search: the search.
        work: of this device.
        state: with what is remembered.
        edits: [u, O, m, ...] of the device's parents.
        alternatives: a, edits for each child, the best first.

    Returns:
        int32[u, n, a, T], `UNSCORED` in the place of edits that there are not, and int32[u, n], each child's operator.
    """
    guide, memory = _guided(search, state)
    shares = operator_shares(guide, memory, search.own_lengths(state.ids))[work.dream, work.slot]
    possible = _possible(search, work, memory, edits)

    def of_slot(
        key: Key[Array, ""], shares: Float32[Array, " O"], edits: Edits, possible: Bool[Array, "O m"], numbers: Array
    ) -> tuple[Int32[Array, "n a T"], Int32[Array, " n"]]:
        operator = jax.random.categorical(
            jax.random.fold_in(key, OPERATOR), jnp.log(shares), shape=(search.children,)
        ).astype(jnp.int32)
        mine = operator[:, None] == jnp.arange(len(guide.operators))
        counts, rank = mine.sum(axis=0), (jnp.cumsum(mine, axis=0) - 1)[jnp.arange(len(operator)), operator]
        # So many edits for each child, whatever the operator's share.
        drawn = jnp.arange(edits.gain.shape[1]) < guide.oversample * counts[:, None]
        noise = jax.random.gumbel(jax.random.fold_in(key, CHOICE), edits.gain.shape)
        value = jnp.where(possible & drawn, edits.gain + noise, -jnp.inf)
        order = jnp.argsort(-value, axis=1)
        own, place = (
            operator[numbers],
            rank[numbers][:, None] + jnp.arange(alternatives) * counts[operator[numbers]][:, None],
        )
        place = jnp.minimum(place, value.shape[1] - 1)
        best = order[own[:, None], place]
        there = value[own[:, None], best] > -jnp.inf
        return jnp.where(there[..., None], edits.ids[own[:, None], best], UNSCORED), own

    return jax.vmap(of_slot)(work.keys, shares, edits, possible, work.numbers)


def once(search: Search, ids: Int32[Array, "R C T"]) -> Int32[Array, "R C T"]:
    """Each dream's children of all slots, `UNSCORED` in the place of those that equal one of another slot."""
    assert search.guide is not None
    return jnp.where(_first_of_equals(ids)[..., None], ids, UNSCORED) if search.guide.places else ids


def selected(
    search: Search,
    state: State,
    made: Children,
    operator: Int32[Array, "R C"],
    gradient: Float32[Array, "u T V"] | None,
) -> tuple[State, Info]:
    """The next population, and what is remembered of the iteration.

    Args:
        search: the search.
        state: whose members are the parents.
        made: the children.
        operator: int32[R, C], what made each.
        gradient: of the parents of this device, to be remembered.
    """
    guide, memory = _guided(search, state)
    # The parents' scores are those that they were selected under.
    pool = Scores(
        jnp.concatenate([state.feature, made.feature], axis=1),
        jnp.concatenate([state.cross_entropy, made.cross_entropy], axis=1),
    )
    every = jnp.concatenate([state.ids, made.ids], axis=1)
    which = takes(guide, every, _apart(search, state, every, pool), penalties_of(search, state))
    ids = jnp.take_along_axis(every, which[..., None], axis=1)
    kept = jax.tree.map(lambda values: jnp.take_along_axis(values, which, axis=1), pool)
    count = made.ids.shape[1]
    taken = (which[..., None] == state.ids.shape[1] + jnp.arange(count)).any(axis=1)
    memory = with_children(memory, operator, made.first_edit, made.scored, taken)
    memory = with_range(memory, pool.feature, pool.cross_entropy)
    if memory.filled is not None:
        filled = jax.vmap(archive.remember)(memory.filled, made.ids, made.scored)
        memory = dataclasses.replace(memory, filled=filled)
    if gradient is not None:
        memory = dataclasses.replace(memory, gradient=of_slots(search, gradient))
    iteration = state.iteration + 1
    members = Scored(ids, kept.feature, kept.cross_entropy)
    if memory.waiting is not None:
        members, memory = _begun_anew(search, members, memory, iteration)
    new = State(members.ids, members.feature, members.cross_entropy, iteration, state.key, memory)
    told = (made.ids, made.feature, made.cross_entropy, made.scored)
    lengths = search.own_lengths(state.ids)
    run = search.population * search.length if lengths is None else lengths.sum(axis=1)
    rows = made.rows + run * (GRADIENT_ROWS if guide.reads_gradient else 1)
    return new, Info(iteration, *told, rows, which, jnp.full(len(ids), jnp.nan, jnp.float32))


def _apart(search: Search, state: State, ids: Int32[Array, "R N T"], pool: Scores) -> Scores:
    """What prompts are chosen by: their scores, less what they have in common with other dreams of their group."""
    guide, memory = _guided(search, state)
    if search.group is None:
        return pool
    share = shared_share(state.ids, search.group, ids, search.allowed.shape[0])
    loss = guide.diversity * WIDTH * memory.slope()[:, None] * share
    return Scores(pool.feature - loss, pool.cross_entropy)


def _begun_anew(
    search: Search, members: Scored, memory: Memory, iteration: Int32[Array, " R"]
) -> tuple[Scored, Memory]:
    """The next beginning's prompts, or the best of all beginnings, in the place of the members when it is time."""
    guide, size = search.guide, search.population
    assert guide is not None
    assert memory.waiting is not None
    # Beginnings that wait, as many as the initial prompts were enough for.
    waiting = memory.waiting.ids.shape[1] // size
    each = jnp.maximum(1, ((1 - guide.merging) * guide.iterations / (waiting + 1)).astype(jnp.int32))
    number = iteration // each
    due = (iteration % each == 0) & (number <= waiting + 1)
    both = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), memory.elites, members)
    elites = best_for_slots(search, both)
    start = jnp.clip(number - 1, 0, waiting - 1) * size
    fresh = jax.tree.map(
        lambda values: jax.vmap(lambda own, at: jax.lax.dynamic_slice_in_dim(own, at, size))(values, start),
        memory.waiting,
    )
    following = _where(number <= waiting, fresh, elites)
    lowest, highest = range_of(following.feature, following.cross_entropy)
    memory = dataclasses.replace(
        memory,
        elites=_where(due, elites, memory.elites),
        lowest=jnp.where(due[:, None], lowest, memory.lowest),
        highest=jnp.where(due, highest, memory.highest),
    )
    return _where(due, following, members), memory


def _where(condition: Bool[Array, " R"], some: Scored, others: Scored) -> Scored:
    return jax.tree.map(lambda a, b: jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b), some, others)


def _guided(search: Search, state: State) -> tuple[Guide, Memory]:
    assert search.guide is not None
    assert state.memory is not None
    return search.guide, state.memory


def _weight(search: Search, slot: Int32[Array, " u"]) -> Float32[Array, " u"]:
    """What a nat/token is worth in each slot, in units by which its objective scatters beside what is known.

    Features and cross-entropies of children scatter by about `noise` nats/token and as much of the feature as the
    frontier's slope makes of that.
    """
    assert search.guide is not None
    penalty = search.penalties[slot]
    return penalty / jnp.sqrt(1 + penalty**2) / search.guide.noise


def _possible(search: Search, work: Work, memory: Memory, edits: Edits) -> Bool[Array, "u O m"]:
    """Which edits may be scored: those that change something, break no constraint, are new, and repeat no more tokens.

    Where lengths vary, they are also to be prompts that are long enough.
    Of a prompt that repeats more than there should be, as an initial one may, those that repeat as much may be.
    """
    assert search.guide is not None
    ids, parents = edits.ids, work.ids[:, None, None]
    changed = ids != parents
    lengths = search.own_lengths(ids)
    fine = search.allowed[ids] if lengths is None else search.allowed[ids] | (ids == PAD)
    if search.movable is not None:
        fine = fine & search.movable
    possible = changed.any(axis=-1) & (fine | ~changed).all(axis=-1)
    if lengths is not None:
        possible = possible & whole(ids, search.guide.least_length)
    if search.automaton is not None:
        flat = ids.reshape(-1, ids.shape[-1])
        breaks = search.automaton.breaks(flat, None if lengths is None else lengths.reshape(-1))
        possible = possible & ~breaks.reshape(possible.shape)
    if memory.filled is not None:
        possible = possible & ~jax.vmap(archive.known)(memory.filled[work.dream], ids)
    repeats = repeated if lengths is None else lambda ids: repeated(told_apart(ids))
    most = jnp.maximum(repeats(parents), search.guide.repeats_in(search.length if lengths is None else lengths))
    possible = possible & (repeats(ids) <= most)
    # Of equal edits of a slot the first counts.
    first = _first_of_equals(ids.reshape(len(ids), -1, ids.shape[-1]))
    return possible & first.reshape(possible.shape)


def _first_of_equals(ids: Int32[Array, "n m T"]) -> Bool[Array, "n m"]:
    """Which of m prompts equal none before them."""
    hashes = archive.hashes(ids)
    # Sorted, equal ones are neighbours in their old order, so that memory grows with m alone.
    order = jnp.lexsort((hashes[..., 1], hashes[..., 0]), axis=-1)
    in_order = jnp.take_along_axis(hashes, order[..., None], axis=1)
    first = jnp.pad((in_order[:, 1:] != in_order[:, :-1]).any(axis=-1), ((0, 0), (1, 0)), constant_values=True)
    return jnp.put_along_axis(jnp.zeros_like(first), order, first, axis=1, inplace=False)
