"""How many dreams a sweep advances together if nobody says."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from epo_jax.config import EPOConfig
from epo_jax.dream.memory import memory_limit
from epo_jax.models import LanguageModel
from epo_jax.models.config import DTYPES

# A CPU is as fast with few prompts as with many, but visits to the host and programs are shared.
ON_CPU = 8
# An accelerator is busy with a few thousand rows at a time.
MOST = 64
# Of the memory that is free, for what parents keep; blocks of rows are made to fit into the rest.
SHARE = 0.25


def dreams_at_once(lm: LanguageModel, config: EPOConfig, tokens: int, devices: int = 1) -> int:
    """How many dreams to advance together.

    On a CPU 8. On an accelerator the largest power of two up to 64 for which the keys and values of all parents take at
    most a quarter of the memory that the weights leave free; at least one for each device that shares the work.

    Args:
        lm: the model, on its device.
        config: settings of the search.
        tokens: of a whole sequence, prefix and suffix included (S).
        devices: along the mesh's axis "data".
    """
    leaves = jax.tree.leaves(lm.params)
    device = next(iter(leaves[0].devices()))
    if device.platform == "cpu":
        return max(ON_CPU, devices)
    limit = memory_limit([device], 0)
    if limit is None:
        return max(ON_CPU, devices)
    free = limit - sum(leaf.nbytes for leaf in leaves) / len(leaves[0].devices())
    parents = parents_bytes(lm, config, tokens)
    found = MOST
    while found > 1 and found * parents > SHARE * free:
        found //= 2
    return max(found, devices)


def parents_bytes(lm: LanguageModel, config: EPOConfig, tokens: int) -> int:
    """Bytes of the keys and values that the parents of one dream leave."""
    model = lm.config
    each = 2 * model.layers * model.kv_heads * model.head_dim * jnp.dtype(DTYPES[model.dtype]).itemsize
    return config.population * tokens * each
