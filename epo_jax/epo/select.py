"""Selection out of the pool of parents and children, and restarts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.axes import PRNGKey, Slots
from epo_jax.epo.objective import objective
from epo_jax.epo.scorer import Scores


def best_for(pool: Scores, penalties: Slots) -> Int32[Array, " P"]:
    """For each penalty the index of the pool's best objective; one prompt may be best for several. Ties: the first."""
    return jax.vmap(lambda penalty: jnp.argmax(objective(pool.feature, pool.cross_entropy, penalty)))(penalties).astype(
        jnp.int32
    )


def restart_penalty(
    key: PRNGKey, iteration: Int32[Array, ""], every: Int32[Array, ""], bounds: Float32[Array, "2"]
) -> Float32[Array, ""]:
    """The penalty that a restart draws uniformly within bounds, or NaN in an iteration without a restart.

    Args:
        key: of this iteration's restart.
        iteration: its number, from 1.
        every: iterations between restarts; 0 means never.
        bounds: least and greatest penalty.
    """
    due = (every > 0) & (iteration % jnp.maximum(every, 1) == 0)
    return jnp.where(due, jax.random.uniform(key, (), jnp.float32, bounds[0], bounds[1]), jnp.nan)


def select(pool: Scores, penalties: Slots, restart: Float32[Array, ""]) -> Int32[Array, " P"]:
    """The pool's member for each slot: the best under the slot's own penalty, or at a restart under the one drawn.

    Args:
        pool: scores of parents, then children.
        penalties: float32[P].
        restart: the penalty that a restart drew, NaN without one.
    """
    return best_for(pool, jnp.where(jnp.isnan(restart), penalties, restart))
