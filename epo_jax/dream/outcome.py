"""What a search found, made ready for a result: its frontier with all that is told of it, or why it failed."""

from __future__ import annotations

import dataclasses

import numpy as np

from epo_jax.constraints import Survival
from epo_jax.dream.frontier import Frontier, decode, frontier_of
from epo_jax.dream.history import History
from epo_jax.features import Feature
from epo_jax.models import LanguageModel
from epo_jax.scoring.activation import activation, latent_of
from epo_jax.scoring.scale import Scale
from epo_jax.scoring.template import Template, frozen_tokens


def full_frontier(
    lm: LanguageModel,
    feature: Feature,
    history: History,
    *,
    template: Template,
    read: str | int,
    scale: Scale | None,
    survival: Survival | None,
) -> Frontier:
    """The frontier of a search, with scaled values, a latent's activations, and which prompts survive retokenization.

    Args:
        lm: the model.
        feature: what was searched.
        history: all that was scored.
        template: the frozen text around the prompts.
        read: where the feature was read.
        scale: what it was taken against; None for nothing.
        survival: tells which prompts survive; None where that was not asked for.
    """
    frontier = frontier_of(history, lm.tokenizer, survival)
    if scale is not None:
        frontier = dataclasses.replace(frontier, scaled=scale.of(frontier.feature))
    if latent_of(feature) is not None and len(frontier):
        frozen = frozen_tokens(lm, template)
        whole = [np.concatenate([frozen.prefix, ids, frozen.suffix]) for ids in frontier.ids]
        frontier = dataclasses.replace(
            frontier, activation=activation(lm, feature, np.stack(whole), template, read=read)
        )
    return frontier


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
