"""What random prompts score: the values that z-scores are taken against, and their cross-entropies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from epo_jax.features.base import Feature
from epo_jax.models import LanguageModel
from epo_jax.parallel.placing import fetched
from epo_jax.scoring.api import sampling_scorer, score
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import sampled_prompts, values_of
from epo_jax.scoring.template import Template, frozen_tokens


def random_prompt_scores(
    lm: LanguageModel, features: Sequence[Feature], length: int, template: Template | None = None
) -> tuple[Float32[np.ndarray, "R N"], Float32[np.ndarray, " N"]]:
    """What the 1,024 random prompts that the scale "random" is taken over score.

    Args:
        lm: the model.
        features: of one kind.
        length: optimized tokens.
        template: frozen text around them, as for `build`.

    Returns:
        Every feature of each prompt, and cross-entropies in nats/token.

    Raises:
        EpoError: a prompt that the model cannot take.
    """
    scorer, allowed = sampling_scorer(lm, features, length, template, LAST)
    values = values_of(scorer, allowed, length)
    template = template or Template()
    frozen = frozen_tokens(lm, template)
    prompts = np.asarray(sampled_prompts(allowed, length))
    before, after = (np.broadcast_to(part, (len(prompts), len(part))) for part in (frozen.prefix, frozen.suffix))
    found = score(lm, features[0], np.concatenate([before, prompts, after], axis=1), template)
    return values, np.asarray(fetched(found.cross_entropy))
