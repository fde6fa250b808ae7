"""A token taken out, so that those behind it move up; a new one follows the last and the length stays, or none does."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from epo_jax.axes import PRNGKey
from epo_jax.epo.lengths import PAD
from epo_jax.epo.operators.base import Edits, Parent, draw_positions, draw_tokens, halves, left_gain


@dataclasses.dataclass(frozen=True)
class Deletion:
    """The new last token is drawn from what the model expects in the last place; half of the edits may do without."""

    reads_gradient: bool = False

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """See `Operator`; where the last token is taken out, it is replaced, if the length stays."""
        position_key, token_key = jax.random.split(key)
        room = parent.ids.shape[0]
        positions = draw_positions(parent, position_key, count)
        last = jnp.full_like(positions, parent.length - 1)
        tokens = draw_tokens(parent, jnp.exp(parent.log_probs), last, token_key)
        gain = jnp.zeros(count, jnp.float32)
        if parent.least_length:
            shorter = halves(key, 1, count)[0] & (parent.length > parent.least_length)
            tokens = jnp.where(shorter, PAD, tokens)
            gain = jnp.where(shorter, left_gain(parent, positions), gain)
        place = jnp.arange(room)
        source = jnp.minimum(place + (place >= positions[:, None]), room - 1)
        return Edits(jnp.where(place == parent.length - 1, tokens[:, None], parent.ids[source]), gain)
