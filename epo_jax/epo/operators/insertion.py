"""A token put between two others, which move apart; one elsewhere leaves, so that the length stays."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int32

from epo_jax.axes import PRNGKey
from epo_jax.epo.operators.base import Edits, Parent, draw_positions, draw_tokens


@dataclasses.dataclass(frozen=True)
class Insertion:
    """The new token is drawn from the model's distribution, and the token that leaves uniformly from all others."""

    reads_gradient: bool = False

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """See `Operator`."""
        position_key, token_key, left_key = jax.random.split(key, 3)
        length = parent.ids.shape[0]
        positions = draw_positions(parent, position_key, count)
        tokens = draw_tokens(parent, jnp.exp(parent.log_probs), positions, token_key)
        leaves = jax.random.randint(left_key, (count,), 0, length)

        def insert(
            position: Int32[Array, ""], token: Int32[Array, ""], left: Int32[Array, ""]
        ) -> tuple[Int32[Array, " T"], Array]:
            place = jnp.arange(length + 1)
            # One token more, then one of the old ones less.
            longer = jnp.where(place == position, token, parent.ids[jnp.where(place > position, place - 1, place)])
            gone = left + (left >= position)
            return longer[place[:-1] + (place[:-1] >= gone)], gone > position

        ids, known = jax.vmap(insert)(positions, tokens, leaves)
        # Where a token before the new one leaves, its surprisal is another; elsewhere it is known.
        gain = parent.nat * parent.log_probs[positions, tokens]
        return Edits(ids, jnp.where(known, gain, 0.0))
