"""The beginning of one member of the population, and the end of another."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from epo_jax.axes import PRNGKey
from epo_jax.epo.lengths import PAD
from epo_jax.epo.operators.base import Edits, Parent, draw_positions


@dataclasses.dataclass(frozen=True)
class Crossover:
    """The parent's tokens before a position, and from there on those of a member drawn uniformly, if it has any.

    Where lengths vary, the child ends where the member does, or where the position is behind that.
    """

    reads_gradient: bool = False

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """See `Operator`."""
        position_key, mate_key = jax.random.split(key)
        positions = draw_positions(parent, position_key, count)
        mates = parent.mates[jax.random.randint(mate_key, (count,), 0, parent.mates.shape[0])]
        ids = jnp.where(jnp.arange(parent.ids.shape[0]) < positions[:, None], parent.ids, mates)
        before = parent.log_probs[positions, parent.ids[positions]]
        first = jnp.take_along_axis(mates, positions[:, None], axis=1)[:, 0]
        gain = parent.nat * (parent.log_probs[positions, first] - before)
        return Edits(ids, jnp.where(first == PAD, 0.0, gain) if parent.least_length else gain)
