"""What a search found, as a result: its frontier with all that is told of it, and why it failed if it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from epo_jax.constraints import Survival
from epo_jax.dream.frontier import decode, frontier_of
from epo_jax.dream.history import History
from epo_jax.dream.result import Result
from epo_jax.dream.run import Run
from epo_jax.epo.lengths import bare, by_length
from epo_jax.errors import EpoError
from epo_jax.features import Feature
from epo_jax.models import LanguageModel
from epo_jax.models.tokenizers import texts_by_id
from epo_jax.scoring.activation import activation, latent_of
from epo_jax.scoring.scale import NONE, Scale
from epo_jax.scoring.template import Template, frozen_tokens


class NonFiniteError(EpoError):
    """A score that is not a finite number.

    Attributes:
        result: all that was scored until then; of several dreams, of the first that met one.
        results: those of all dreams.
    """

    def __init__(self, message: str, result: Result, results: Sequence[Result]):
        super().__init__(message)
        self.result = result
        self.results = list(results)


def result_of(
    lm: LanguageModel,
    feature: Feature,
    history: History,
    run: Run,
    *,
    template: Template,
    read: str | int,
    scale: Scale,
    survival: Survival | None,
) -> Result:
    """A search's result; its frontier has scaled values, a latent's activations, and which prompts survive.

    Args:
        lm: the model.
        feature: what was searched.
        history: all that was scored.
        run: what was asked for, and why it was stopped; a failure is told before that.
        template: the frozen text around the prompts.
        read: where the feature was read.
        scale: what it was taken against.
        survival: tells which prompts survive retokenization; None where that was not asked for.
    """
    run = dataclasses.replace(
        run,
        stopped=failure(lm, feature, history) or run.stopped,
        scale_offset=scale.offset,
        scale_unit=scale.unit,
    )
    frontier = frontier_of(history, lm.tokenizer, survival)
    if run.scale != NONE:
        frontier = dataclasses.replace(frontier, scaled=scale.of(frontier.feature))
    if latent_of(feature) is not None and len(frontier):
        frozen = frozen_tokens(lm, template)
        whole = [np.concatenate([frozen.prefix, bare(ids), frozen.suffix]) for ids in frontier.ids]
        found = by_length(whole, lambda ids: activation(lm, feature, ids, template, read=read))
        frontier = dataclasses.replace(frontier, activation=np.asarray(found, np.float32))
    return Result(frontier, history, run, token_texts=texts_by_id(lm.tokenizer, bare(history.ids)))


def interrupted(results: Sequence[Result]) -> list[Result]:
    """Results of searches that ended, where Ctrl-C left out something of what is told of prompts; they say so."""
    told = "interrupted after the last iteration, before all was known of the frontier's prompts"
    return [
        dataclasses.replace(result, run=dataclasses.replace(result.run, stopped=result.run.stopped or told))
        for result in results
    ]


def checked(
    lm: LanguageModel, features: Sequence[Feature], results: Sequence[Result], several: bool
) -> Result | list[Result]:
    """What a dream gives back: a list if several were asked for.

    Raises:
        NonFiniteError: one of them met a score that is no number.
    """
    for one, result in zip(features, results, strict=True):
        wrong = failure(lm, one, result.history)
        if wrong:
            raise NonFiniteError(wrong, result, results)
    return list(results) if several else results[0]


def failure(lm: LanguageModel, feature: Feature, history: History) -> str:
    """What is wrong with the first score that is not a finite number; empty if all are."""
    rows = np.flatnonzero(~(np.isfinite(history.feature) & np.isfinite(history.cross_entropy)))
    if not len(rows):
        return ""
    row = rows[0]
    return (
        f"--feature={feature.name}: not finite at iteration {history.iteration[row]} (feature {history.feature[row]}, "
        f"cross-entropy {history.cross_entropy[row]}) on the prompt {decode(lm.tokenizer, history.ids[row])!r}; "
        f"the run stopped and its {len(history)} scored prompts are kept; --dtype=float32 may help"
    )
