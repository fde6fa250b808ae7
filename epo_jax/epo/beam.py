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
from epo_jax.epo.guided import best_for_slots, slot_penalties
from epo_jax.epo.objective import objective
from epo_jax.epo.scorer import Candidates
from epo_jax.epo.search import Search

# Draws of the beam, beside those of iterations and random prompts.
BEAM = 2**17
# Continuations in the last place for each one elsewhere: the feature is most often read there.
LAST = 8
# Nats by which a token that stands in the prompt already is less likely than the model has it: a beam for fluency alone
# ends in repetition.
REPEATED = 2.0


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

    def position(ids: Int32[Array, "R P T"], place: Int32[Array, ""]) -> tuple[Int32[Array, "R P T"], None]:
        return _continued(search, key, ids, place, search.children, every=False), None

    last = search.length - 1
    ids, _ = jax.lax.scan(position, ids, jnp.arange(last, dtype=jnp.int32))
    return _continued(search, key, ids, jnp.int32(last), LAST * search.children, every=True)


def beam_rows(population: int, children: int, length: int) -> int:
    """Rows of tokens that a beam runs: all parents at each position, and one for each continuation."""
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
    dreams, population, length = ids.shape
    flat, dream = ids.reshape(-1, length), jnp.repeat(jnp.arange(dreams, dtype=jnp.int32), population)
    parents = search.guiding.parents(flat, dream)
    log_probs = jax.lax.dynamic_index_in_dim(search.guiding.log_probs(parents), place, 1, keepdims=False)
    log_probs = jnp.where(search.allowed, log_probs[:, : search.allowed.shape[0]], -jnp.inf)
    slot = jnp.tile(jnp.arange(population), dreams)

    def drawn(key: Key[Array, ""], slot: Array, log_probs: Float32[Array, " V"], ids: Array) -> Int32[Array, " n"]:
        before = jnp.where(jnp.arange(length) < place, ids, log_probs.shape[0])
        log_probs = log_probs.at[before].add(-REPEATED, mode="drop")
        own = jax.random.fold_in(jax.random.fold_in(key, place), slot)
        # The best so many of perturbed log-probabilities are a draw without repetition.
        noise = jax.random.gumbel(own, log_probs.shape)
        return jax.lax.top_k(log_probs + noise, count)[1].astype(jnp.int32)

    count = min(count, log_probs.shape[1])
    tokens = jax.vmap(drawn)(key[dream], slot, log_probs, flat)
    here = jnp.arange(length) == place
    new = jnp.where(here, tokens[..., None], flat[:, None]).reshape(-1, length)
    number = jnp.repeat(jnp.arange(len(flat), dtype=jnp.int32), count)
    places = jnp.full(len(new), place, jnp.int32)
    # A first token without a predecessor has no cross-entropy; there one more is scored, whatever it is.
    least = 1 + search.guiding.first_scored
    # Where fewer tokens are allowed than are drawn, others come last, and are no continuations.
    fine = search.allowed[tokens.reshape(-1)]
    lengths = jnp.where(fine, jnp.maximum(places + 1, least), 0)
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
