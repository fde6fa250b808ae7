"""What slots take of scored prompts, where slots may hold different prompts and penalties follow the frontier."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32

from epo_jax.epo.guide import Guide, Scored, range_of, slope_of
from epo_jax.epo.objective import objective
from epo_jax.epo.scorer import Scores
from epo_jax.epo.search import Search
from epo_jax.epo.select import best_for


def best_for_slots(search: Search, prompts: Scored) -> Scored:
    """Of prompts the best for each slot, by penalties in units of their own frontier's slope."""
    assert search.guide is not None
    pool = Scores(prompts.feature, prompts.cross_entropy)
    which = takes(search.guide, prompts.ids, pool, slot_penalties(search, prompts))
    ids = jnp.take_along_axis(prompts.ids, which[..., None], axis=1)
    kept = jax.tree.map(lambda values: jnp.take_along_axis(values, which, axis=1), pool)
    return Scored(ids, kept.feature, kept.cross_entropy)


def slot_penalties(search: Search, prompts: Scored) -> Float32[Array, "R P"]:
    """The penalty of each slot, as it is where these prompts are all that is known."""
    assert search.guide is not None
    if search.guide.follows:
        return slope_of(*range_of(prompts.feature, prompts.cross_entropy))[:, None] * search.penalties
    # Parts of a dream's prompts are handed in as dreams.
    scales = search.scales(search.dreams or 1)
    return jnp.repeat(scales, len(prompts.ids) // len(scales))[:, None] * search.penalties


def best_of(search: Search, ids: Int32[Array, "R N T"], scores: Scores) -> Int32[Array, "R n T"]:
    """Of scored prompts the best for each slot, out of equal parts of them for each beginning."""
    assert search.guide is not None
    dreams, _, length = ids.shape
    parts = search.guide.beginnings

    def part(values: Array) -> Array:
        return values.reshape(dreams * parts, -1, *values.shape[2:])

    best = best_for_slots(search, Scored(part(ids), part(scores.feature), part(scores.cross_entropy)))
    return best.ids.reshape(dreams, -1, length)


def takes(
    guide: Guide, ids: Int32[Array, "R N T"], pool: Scores, penalties: Float32[Array, "R P"]
) -> Int32[Array, "R P"]:
    """What each slot takes of a pool."""
    if guide.distinct:
        return jax.vmap(_distinct)(ids, pool, penalties)
    return jax.vmap(best_for)(pool, penalties)


def _distinct(ids: Int32[Array, "N T"], pool: Scores, penalties: Float32[Array, " P"]) -> Int32[Array, " P"]:
    """For each penalty the best prompt that no slot before has; where there are too few, the best one again."""

    def slot(free: Bool[Array, " N"], penalty: Float32[Array, ""]) -> tuple[Bool[Array, " N"], Int32[Array, ""]]:
        values = objective(pool.feature, pool.cross_entropy, penalty)
        own = jnp.where(free & (values > -jnp.inf), values, -jnp.inf)
        best = jnp.where((own > -jnp.inf).any(), own.argmax(), values.argmax()).astype(jnp.int32)
        return free & ~(ids == ids[best]).all(axis=-1), best

    return jax.lax.scan(slot, jnp.ones(len(ids), jnp.bool_), penalties)[1]
