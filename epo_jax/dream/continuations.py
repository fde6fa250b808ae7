"""How the model itself goes on after the frontier's prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from epo_jax.dream.result import Result
from epo_jax.models import LanguageModel
from epo_jax.models.continuing import continuations
from epo_jax.models.tokenizers import token_texts
from epo_jax.scoring.template import FrozenTokens


def with_continuations(lm: LanguageModel, results: Sequence[Result], frozen: FrozenTokens) -> list[Result]:
    """Results whose frontiers have the model's own continuation of each prompt, one program for all of them.

    Args:
        lm: the model.
        results: of dreams of one length.
        frozen: what stands around the prompts.
    """
    prompts = np.concatenate([result.frontier.ids for result in results])
    if not len(prompts):
        return list(results)
    suffix = np.broadcast_to(frozen.suffix, (len(prompts), len(frozen.suffix)))
    found = continuations(lm, np.concatenate([prompts, suffix], axis=1), prefix_ids=frozen.prefix)
    texts = [tuple(token_texts(lm.tokenizer, tokens)) for tokens in found]
    told, start = [], 0
    for result in results:
        stop = start + len(result.frontier)
        frontier = dataclasses.replace(result.frontier, continuation=tuple(texts[start:stop]))
        told.append(dataclasses.replace(result, frontier=frontier))
        start = stop
    return told
