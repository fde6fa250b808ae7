"""One token replaced by one that the model itself might have written there, given the tokens before."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from epo_jax.axes import PRNGKey
from epo_jax.epo.operators.base import Edits, Parent, draw_positions, draw_tokens, swaps


@dataclasses.dataclass(frozen=True)
class ModelSwap:
    """Tokens drawn from the next-token distribution of the parent's own rows.

    Attributes:
        sharpness: what log-probabilities are multiplied by: 1 for the model's distribution, 0 for uniform draws.
    """

    sharpness: float = 1.0
    reads_gradient: bool = False

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """See `Operator`."""
        position_key, token_key = jax.random.split(key)
        positions = draw_positions(parent, position_key, count)
        tokens = draw_tokens(parent, jnp.exp(self.sharpness * parent.log_probs), positions, token_key)
        return swaps(parent, positions, tokens)
