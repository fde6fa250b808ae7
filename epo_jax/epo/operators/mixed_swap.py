"""One token replaced by one that both the model and the gradient speak for."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from epo_jax.axes import PRNGKey
from epo_jax.epo.operators.base import Edits, Parent, draw_positions, draw_tokens, swaps

# Beyond this many nats above the greatest weight nothing is drawn, and nothing overflows below it.
RANGE = 80.0


@dataclasses.dataclass(frozen=True)
class MixedSwap:
    """Tokens drawn by the product of the model's distribution and an exponential of the gradient.

    Attributes:
        sharpness: what log-probabilities are multiplied by.
        pull: what gradients, in standard deviations over the tokens of their position, are multiplied by.
    """

    sharpness: float = 0.5
    pull: float = 1.0
    reads_gradient: bool = True

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """See `Operator`."""
        assert parent.gradient is not None
        position_key, token_key = jax.random.split(key)
        positions = draw_positions(parent, position_key, count)
        gradient = jnp.nan_to_num(parent.gradient, nan=0.0, posinf=0.0, neginf=0.0)
        unit = jnp.std(gradient, axis=-1, keepdims=True, where=parent.allowed)
        weights = self.sharpness * parent.log_probs + self.pull * gradient / jnp.maximum(unit, 1e-30)
        greatest = jnp.max(weights, axis=-1, keepdims=True, where=parent.allowed, initial=-jnp.inf)
        tokens = draw_tokens(parent, jnp.exp(jnp.clip(weights - greatest, -RANGE, 0)), positions, token_key)
        return swaps(parent, positions, tokens)
