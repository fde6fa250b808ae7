"""The many prompts among which a guided search finds those that it starts from."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int32

from epo_jax.config import EPOConfig
from epo_jax.dream.starts import Keep, samples
from epo_jax.epo.beam import beam_rows
from epo_jax.epo.mutate import random_prompts
from epo_jax.models import LanguageModel
from epo_jax.parallel.placing import fetched
from epo_jax.scoring import Template
from epo_jax.scoring.template import frozen_tokens

# Random prompts are drawn with a number of their own, beside the samples'.
RANDOM = 2**16


def start_pool(
    lm: LanguageModel,
    config: EPOConfig,
    seeds: Sequence[int],
    template: Template,
    allowed: Bool[np.ndarray, " V"],
    keep: Keep | None = None,
) -> Int32[np.ndarray, "R N T"] | None:
    """Samples of the model, as they follow the template's prefix, and random prompts, for each dream its own.

    Args:
        lm: the model.
        config: of a guided search.
        seeds: of the dreams.
        template: frozen text.
        allowed: bool[V], tokens that they may hold.
        keep: which prompts may stay; samples are drawn anew, of random ones those that may not are left out.

    Returns:
        int32[R, N, T], equal parts for each beginning; None where the settings ask for none.

    Raises:
        EpoError: too few samples that may stay.
    """
    options = config.options
    if options is None or not options.model_starts + options.random_starts:
        return None
    prefix, parts = frozen_tokens(lm, template).prefix, options.beginnings
    drawn, written = options.random_starts // parts, options.model_starts // parts
    pools = []
    for seed in seeds:
        random = np.zeros((0, config.length), np.int32)
        if drawn:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 0), RANDOM)
            random = np.asarray(fetched(random_prompts(key, jnp.asarray(allowed), parts * drawn, config.length)))
            random = random if keep is None else random[keep(random)]
        # Where few random ones stay, the model's own fill up.
        each = len(random) // parts
        more = drawn + written - each
        own = samples(lm, config, parts * more, seed, prefix, allowed, keep) if more else random[:0]
        split = [
            array.reshape(parts, count, config.length) for array, count in ((random[: parts * each], each), (own, more))
        ]
        pools.append(np.concatenate(split, axis=1).reshape(-1, config.length))
    return np.stack(pools)


def start_rows(config: EPOConfig) -> int:
    """Rows of tokens that are run for one dream's starts: samples are drawn and all prompts scored, or a beam is."""
    options = config.options
    if options is None:
        return 0
    if options.beam:
        return options.beginnings * beam_rows(config.population, config.children, config.length)
    return config.length * (2 * options.model_starts + options.random_starts)
