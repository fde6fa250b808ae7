"""How the model itself goes on after the frontier's prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from epo_jax.dream.result import Result
from epo_jax.epo.lengths import bare, by_length
from epo_jax.models import LanguageModel
from epo_jax.models.continuing import continuations
from epo_jax.models.tokenizers import token_texts
from epo_jax.scoring.template import FrozenTokens


def with_continuations(lm: LanguageModel, results: Sequence[Result], frozen: FrozenTokens) -> list[Result]:
    """Results whose frontiers have the model's own continuation of each prompt, one program for all of a length.

    Args:
        lm: the model.
        results: of dreams.
        frozen: what stands around the prompts.
    """
    prompts = [np.concatenate([bare(ids), frozen.suffix]) for result in results for ids in result.frontier.ids]
    if not prompts:
        return list(results)
    found = by_length(prompts, lambda ids: continuations(lm, ids, prefix_ids=frozen.prefix))
    texts = [tuple(token_texts(lm.tokenizer, tokens)) for tokens in found]
    told, start = [], 0
    for result in results:
        stop = start + len(result.frontier)
        frontier = dataclasses.replace(result.frontier, continuation=tuple(texts[start:stop]))
        told.append(dataclasses.replace(result, frontier=frontier))
        start = stop
    return told
