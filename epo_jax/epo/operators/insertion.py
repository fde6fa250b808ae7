"""A token put between two others, which move apart; one elsewhere leaves, so that the length stays, or none does."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int32

from epo_jax.axes import PRNGKey
from epo_jax.epo.operators.base import Edits, Parent, draw_positions, draw_tokens, halves, joined_gain


@dataclasses.dataclass(frozen=True)
class Insertion:
    """The new token is drawn from the model's distribution, and the token that leaves uniformly from all others.

    Where there is room for one token more, half of the edits let none leave; half of those put the new token behind
    the position drawn, so that it may be the last.
    """

    reads_gradient: bool = False

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """See `Operator`."""
        position_key, token_key, left_key = jax.random.split(key, 3)
        room = parent.ids.shape[0]
        positions = draw_positions(parent, position_key, count)
        longer = None
        if parent.least_length:
            longer, behind = halves(key, 2, count)
            longer = longer & (parent.length < room)
            positions = positions + (longer & behind)
        tokens = draw_tokens(parent, jnp.exp(parent.log_probs), positions, token_key)
        leaves = jax.random.randint(left_key, (count,), 0, parent.length)
        gone = leaves + (leaves >= positions)
        if longer is not None:
            # What leaves is a pad, pushed out behind the last place.
            gone = jnp.where(longer, room, gone)

        def insert(position: Int32[Array, ""], token: Int32[Array, ""], gone: Int32[Array, ""]) -> Int32[Array, " T"]:
            place = jnp.arange(room + 1)
            # One token more, then one of the old ones less.
            more = jnp.where(place == position, token, parent.ids[jnp.where(place > position, place - 1, place)])
            return more[place[:-1] + (place[:-1] >= gone)]

        ids = jax.vmap(insert)(positions, tokens, gone)
        # Where a token before the new one leaves, its surprisal is another; elsewhere it is known.
        gain = jnp.where(gone > positions, parent.nat * parent.log_probs[positions, tokens], 0.0)
        if longer is not None:
            gain = jnp.where(longer, joined_gain(parent, positions, tokens), gain)
        return Edits(ids, gain)
