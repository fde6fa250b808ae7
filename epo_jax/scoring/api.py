"""Scores and token gradients of whole sequences, and searches ready to start: the functional API."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from epo_jax.axes import Prompts, Slots
from epo_jax.config import EPOConfig
from epo_jax.epo import Algorithm, Candidates, Scores
from epo_jax.epo.objective import penalty_grid
from epo_jax.errors import EpoError
from epo_jax.features.base import Feature
from epo_jax.models import LanguageModel
from epo_jax.models.language_model import checked_ids
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.scoring.scorer import LanguageModelScorer
from epo_jax.scoring.template import NOTHING, FrozenTokens, Template, frozen_tokens


def build(lm: LanguageModel, feature: Feature, config: EPOConfig, template: Template | None = None) -> Algorithm:
    """A search over prompts for a feature of a model, as a pytree whose shapes alone are static.

    Args:
        lm: the model.
        feature: what to maximize.
        config: settings of the search.
        template: frozen text around the optimized tokens; by default nothing but the BOS that the tokenizer adds.

    Returns:
        An algorithm with `init(key) -> state` and `step(state) -> (state, info)`.

    Raises:
        EpoError: settings that this model cannot serve.
    """
    frozen = frozen_tokens(lm, template or Template())
    check_length(lm, config.length, frozen)
    if config.top_k > lm.config.vocab_size:
        raise EpoError(f"--top_k={config.top_k}: above the model's vocabulary of {lm.config.vocab_size} tokens")
    allowed = allowed_tokens(lm.tokenizer, lm.config.vocab_size)
    if allowed.sum() < 2:
        raise EpoError(
            f"{lm.source}: a search needs at least two allowed tokens, and the tokenizer leaves {allowed.sum()}"
        )
    return Algorithm(
        scorer=_scorer(lm, feature, frozen),
        penalties=penalty_grid(config.lambda_min, config.lambda_max, config.population),
        allowed=jnp.asarray(allowed),
        restart_every=jnp.int32(config.restart_every),
        restart_bounds=jnp.asarray([config.restart_lambda_min, config.restart_lambda_max], jnp.float32),
        population=config.population,
        children=config.children,
        length=config.length,
        top_k=min(config.top_k, int(allowed.sum())),
    )


def check_length(lm: LanguageModel, length: int, frozen: FrozenTokens) -> None:
    """Check that prompts of this length can be scored.

    Raises:
        EpoError: more tokens than the model takes, or no token that has a predecessor.
    """
    total = len(frozen.prefix) + length + len(frozen.suffix)
    if total > lm.config.max_positions:
        raise EpoError(
            f"--length={length}: with prefix and suffix it makes {total} tokens, and the model takes "
            f"{lm.config.max_positions}"
        )
    if length == 1 and len(frozen.prefix) == 0:
        raise EpoError("--length=1: a single token has no predecessor to score it by; give a --prefix or --bos=always")


def score(lm: LanguageModel, feature: Feature, ids: ArrayLike, template: Template | None = None) -> Scores:
    """Feature and cross-entropy of whole sequences as they are; no BOS is added.

    Args:
        lm: the model.
        feature: read at the last token.
        ids: int[B, S].
        template: without one the cross-entropy covers every token that has a predecessor; with one, whose tokens the
            sequences must hold at their ends, only the tokens between.

    Returns:
        `.feature` float32[B] and `.cross_entropy` float32[B] in nats/token.

    Raises:
        EpoError: ids that the model cannot take, or too few of them.
    """
    scorer, prompts = _split(lm, feature, ids, template)
    return _score(scorer, prompts)


def token_gradients(
    lm: LanguageModel, feature: Feature, ids: ArrayLike, penalty: ArrayLike, template: Template | None = None
) -> Float32[jax.Array, "B T V"]:
    """Gradient of `feature - penalty * cross_entropy` with respect to one-hot tokens.

    Args:
        lm: the model.
        feature: read at the last token.
        ids: int[B, S], whole sequences as they are; no BOS is added.
        penalty: a number, or one for each sequence, [B].
        template: as for `score`; with one, only the tokens between are differentiated.

    Returns:
        float32[B, T, V], through the embedding and through the label that scores each token.

    Raises:
        EpoError: ids that the model cannot take, too few of them, or penalties of another shape.
    """
    scorer, prompts = _split(lm, feature, ids, template)
    penalties = np.asarray(penalty, np.float32)
    if penalties.shape not in ((), (prompts.shape[0],)):
        raise EpoError(f"penalty: has shape {penalties.shape}, where a number or [{prompts.shape[0]}] is read")
    return _gradients(scorer, prompts, jnp.broadcast_to(jnp.asarray(penalties), prompts.shape[0]))


def _split(
    lm: LanguageModel, feature: Feature, ids: ArrayLike, template: Template | None
) -> tuple[LanguageModelScorer, Prompts]:
    sequences = checked_ids(lm, ids)
    frozen = NOTHING if template is None else frozen_tokens(lm, template)
    start, stop = len(frozen.prefix), sequences.shape[1] - len(frozen.suffix)
    for name, expected, found in (
        ("prefix", frozen.prefix, sequences[:, :start]),
        ("suffix", frozen.suffix, sequences[:, stop:]),
    ):
        if found.shape[1] != len(expected) or not np.array_equal(
            np.asarray(found), np.broadcast_to(expected, found.shape)
        ):
            raise EpoError(f"ids: must hold the tokens of the template's {name}, {expected.tolist()}")
    if stop - start < 1 or (stop - start == 1 and start == 0):
        raise EpoError(f"ids: {sequences.shape[1]} tokens leave none to score; a scored token has a predecessor")
    return _scorer(lm, feature, frozen), sequences[:, start:stop]


def _scorer(lm: LanguageModel, feature: Feature, frozen: FrozenTokens) -> LanguageModelScorer:
    return LanguageModelScorer(
        params=lm.params,
        feature=feature,
        prefix=jnp.asarray(frozen.prefix),
        suffix=jnp.asarray(frozen.suffix),
        graphdef=lm.graphdef,
    )


@jax.jit
def _score(scorer: LanguageModelScorer, ids: Prompts) -> Scores:
    count, length = ids.shape
    slots = jnp.arange(count, dtype=jnp.int32)
    whole = jnp.full_like(slots, length)
    return scorer.evaluate(None, Candidates(ids, slots), jnp.zeros_like(slots), whole)


@jax.jit
def _gradients(scorer: LanguageModelScorer, ids: Prompts, penalties: Slots) -> Float32[jax.Array, "B T V"]:
    return scorer.gradients(ids, penalties)[0]
