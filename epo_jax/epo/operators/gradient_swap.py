"""One token replaced by one of those with the greatest gradient at its position: the paper's operator."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int32

from epo_jax.axes import PRNGKey
from epo_jax.epo.operators.base import Edits, Parent, draw_positions, swaps

# Tokens that are ranked; `Parent.kept` says how many of them are drawn from.
MOST = 512


@dataclasses.dataclass(frozen=True)
class GradientSwap:
    """Tokens drawn uniformly from those whose one-hot gradient is greatest (section 2 of the paper)."""

    reads_gradient: bool = True

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """See `Operator`."""
        assert parent.gradient is not None
        position_key, token_key = jax.random.split(key)
        positions = draw_positions(parent, position_key, count)
        most = min(MOST, parent.gradient.shape[-1])
        # A gradient that is not a number ranks below all numbers.
        ranked = jnp.nan_to_num(parent.gradient, nan=jnp.finfo(jnp.float32).min)
        _, best = jax.lax.top_k(jnp.where(parent.allowed, ranked, -jnp.inf), most)
        ranks = jax.random.randint(token_key, (count,), 0, jnp.clip(parent.kept, 1, most))
        tokens: Int32[Array, " m"] = best[positions, ranks]
        return swaps(parent, positions, tokens)
