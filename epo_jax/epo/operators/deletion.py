"""A token taken out, so that those behind it move up; a new one follows the last, so that the length stays."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from epo_jax.axes import PRNGKey
from epo_jax.epo.operators.base import Edits, Parent, draw_positions, draw_tokens


@dataclasses.dataclass(frozen=True)
class Deletion:
    """The new last token is drawn from what the model expects in the last place."""

    reads_gradient: bool = False

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """See `Operator`; where the last token is taken out, it is replaced."""
        position_key, token_key = jax.random.split(key)
        length = parent.ids.shape[0]
        positions = draw_positions(parent, position_key, count)
        last = jnp.full_like(positions, length - 1)
        tokens = draw_tokens(parent, jnp.exp(parent.log_probs), last, token_key)
        place = jnp.arange(length)
        source = jnp.minimum(place + (place >= positions[:, None]), length - 1)
        ids = jnp.where(place == length - 1, tokens[:, None], parent.ids[source])
        return Edits(ids, jnp.zeros(count, jnp.float32))
