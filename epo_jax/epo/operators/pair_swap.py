"""Two neighbouring tokens replaced at once, so that words of two tokens are one edit."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from epo_jax.axes import PRNGKey
from epo_jax.epo.operators.base import Edits, Parent, draw_positions, draw_tokens, put, swap_gain


@dataclasses.dataclass(frozen=True)
class PairSwap:
    """Both tokens are drawn from the model's distributions; the second one's is that after the old first token."""

    reads_gradient: bool = False

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """See `Operator`; at the last position one token is replaced."""
        position_key, first_key, second_key = jax.random.split(key, 3)
        positions, weights = draw_positions(parent, position_key, count), jnp.exp(parent.log_probs)
        first = draw_tokens(parent, weights, positions, first_key)
        following = jnp.minimum(positions + 1, parent.length - 1)
        second = draw_tokens(parent, weights, following, second_key)
        here = jnp.arange(parent.ids.shape[0]) == positions[:, None]
        ids = jnp.where(here, first[:, None], put(parent, following, second))
        # Only the first token's surprisal is known.
        return Edits(ids, swap_gain(parent, positions, first))
