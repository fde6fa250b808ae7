"""Initial prompts that the model writes token by token, towards each slot's objective.

At each position each slot's prompt is continued by tokens drawn from the model, as many as a slot has children, and in
the last place several times as many; a continuation costs one row. A slot keeps the best of its own, so that the slots'
prompts stay as different as they began; at the end each takes the best of all.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32, Int32, Key

from epo_jax.epo.guide import Scored
from epo_jax.epo.objective import objective
from epo_jax.epo.repetition import repeated
from epo_jax.epo.scorer import Candidates
from epo_jax.epo.search import Search
from epo_jax.epo.slots import best_for_slots, slot_penalties

# Draws of the beam, beside those of iterations and random prompts.
BEAM = 2**17
# Continuations in the last place for each one elsewhere: the feature is most often read there.
LAST = 8
# Nats by which a token that stands in the prompt already is less likely than the model has it: a beam for fluency alone
# ends in repetition.
REPEATED = 2.0
# The same where no more may be repeated; not all, so that there is a draw where every token stands there already.
TOO_OFTEN = 1e4


def beam(search: Search, key: Key[Array, " R"]) -> Int32[Array, "R n T"]:
    """The prompts of a beam for each beginning.

    Args:
        search: with a guide.
        key: of each dream.
    """
    assert search.guide is not None
    start = jax.vmap(lambda one: jax.random.fold_in(jax.random.fold_in(one, 0), BEAM))(key)
    numbers = jnp.arange(search.guide.beginnings)
    found = jax.lax.map(lambda number: _one(search, jax.vmap(jax.random.fold_in, (0, None))(start, number)), numbers)
    return jnp.moveaxis(found, 0, 1).reshape(len(key), -1, search.length)


def _one(search: Search, key: Key[Array, " R"]) -> Int32[Array, "R P T"]:
    # What stands behind the position that is written is never looked at.
    ids = jnp.full((len(key), search.population, search.length), search.allowed.argmax(), jnp.int32)
    first = search.guiding.first_scored
    if first:
        ids = ids.at[..., 0].set(_openings(search, key))

    def position(ids: Int32[Array, "R P T"], place: Int32[Array, ""]) -> tuple[Int32[Array, "R P T"], None]:
        return _continued(search, key, ids, place, search.children, every=False), None

    last = search.length - 1
    ids, _ = jax.lax.scan(position, ids, jnp.arange(first, last, dtype=jnp.int32))
    return _continued(search, key, ids, jnp.int32(last), LAST * search.children, every=True)


def _openings(search: Search, key: Key[Array, " R"]) -> Int32[Array, "R P"]:
    """First tokens that nothing stands before, so that neither they nor what they are good for has a score."""
    weights = jnp.log((search.allowed if search.openings is None else search.openings).astype(jnp.float32))

    def drawn(key: Key[Array, ""]) -> Int32[Array, " P"]:
        own = jax.random.fold_in(key, 0)
        return jax.random.categorical(own, weights, shape=(search.population,)).astype(jnp.int32)

    return jax.vmap(drawn)(key)


def beam_rows(population: int, children: int, length: int) -> int:
    """Rows of tokens that a beam runs at most: all parents at each position, and one for each continuation."""
    return population * (length * length + children * (length - 1 + LAST))


def _continued(
    search: Search,
    key: Key[Array, " R"],
    ids: Int32[Array, "R P T"],
    place: Int32[Array, ""],
    count: int,
    every: bool,
) -> Int32[Array, "R P T"]:
    """The best of so many continuations of each slot's prompt; of `every` one's for each slot, if that is asked for."""
    assert search.guide is not None
    dreams, population, length = ids.shape
    flat, dream = ids.reshape(-1, length), jnp.repeat(jnp.arange(dreams, dtype=jnp.int32), population)
    parents = search.guiding.parents(flat, dream)
    log_probs = jax.lax.dynamic_index_in_dim(search.guiding.log_probs(parents), place, 1, keepdims=False)
    log_probs = jnp.where(search.allowed, log_probs[:, : search.allowed.shape[0]], -jnp.inf)
    slot = jnp.tile(jnp.arange(population), dreams)

    most = search.guide.repeats_in(length)

    def drawn(key: Key[Array, ""], slot: Array, log_probs: Float32[Array, " V"], ids: Array) -> tuple[Array, Array]:
        there = jnp.arange(length) < place
        # What stands behind is told apart, and so no repetition.
        repeats = repeated(jnp.where(there, ids, -1 - jnp.arange(length)))
        before = jnp.where(there, ids, log_probs.shape[0])
        log_probs = log_probs.at[before].add(-jnp.where(repeats < most, REPEATED, TOO_OFTEN), mode="drop")
        own = jax.random.fold_in(jax.random.fold_in(key, place), slot)
        # The best so many of perturbed log-probabilities are a draw without repetition.
        noise = jax.random.gumbel(own, log_probs.shape)
        values, tokens = jax.lax.top_k(log_probs + noise, count)
        return tokens.astype(jnp.int32), values > values[0] - TOO_OFTEN / 2

    count = min(count, log_probs.shape[1])
    tokens, fine = jax.vmap(drawn)(key[dream], slot, log_probs, flat)
    here = jnp.arange(length) == place
    new = jnp.where(here, tokens[..., None], flat[:, None]).reshape(-1, length)
    number = jnp.repeat(jnp.arange(len(flat), dtype=jnp.int32), count)
    places = jnp.full(len(new), place, jnp.int32)
    # Where fewer tokens may follow than are drawn, others come last, and are no continuations.
    fine = fine.reshape(-1)
    lengths = jnp.where(fine, places + 1, 0)
    scores = search.scorer.evaluate(parents, Candidates(new, number, dream[number]), places, lengths)
    feature = jnp.where(fine, scores.feature, jnp.nan)
    pool = jax.tree.map(
        lambda part: part.reshape(dreams, population * count, *part.shape[1:]),
        Scored(new, feature, scores.cross_entropy),
    )
    if every:
        return best_for_slots(search, pool).ids
    penalties = jnp.repeat(slot_penalties(search, pool), count, axis=1)
    values = objective(pool.feature, pool.cross_entropy, penalties).reshape(dreams, population, count)
    which = values.argmax(axis=2) + count * jnp.arange(population)
    return jnp.take_along_axis(pool.ids, which[..., None], axis=1)
