"""Replace each token of a prompt, and see what becomes of the feature."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Int32
from numpy.typing import ArrayLike

from epo_jax.attribution.result import Attribution, with_texts
from epo_jax.axes import Vocabulary
from epo_jax.epo import Candidates
from epo_jax.epo.lengths import PAD
from epo_jax.epo.mutate import top_tokens
from epo_jax.errors import EpoError
from epo_jax.features import Feature
from epo_jax.models import LanguageModel
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.parallel.placing import fetched
from epo_jax.scoring import Template
from epo_jax.scoring.api import split
from epo_jax.scoring.assemble import check_allowed
from epo_jax.scoring.forward import rows_of_logits
from epo_jax.scoring.packing import default_blocks
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scorer import LanguageModelScorer
from epo_jax.scoring.two_models import TwoModelScorer

ALTERNATIVES = 32
# Prompts whose alternatives are scored together, at most: enough to fill the blocks of evaluation.
AT_ONCE = 8


def attribute(
    lm: LanguageModel,
    feature: Feature,
    ids: ArrayLike,
    template: Template | None = None,
    *,
    read: str | int = LAST,
    alternatives: int = ALTERNATIVES,
) -> Attribution:
    """Causal token attribution (figure 1 of the paper): what the feature loses when a token is replaced.

    Each token between prefix and suffix is replaced, one at a time, by the tokens that have the greatest gradient of
    the feature (without cross-entropy) with respect to the one-hot token at its position, as in the paper and in
    dreamy's `resample`. Unlike there, the token itself and tokens that a search may not use (special and unused ones)
    are no alternatives. The gradient only chooses; each alternative is then scored by running the prompt with it. So a
    token whose drop to the worst is large matters, and one whose drop to the best is large as well has no substitute
    among those that should suit the feature best.

    Args:
        lm: the model.
        feature: what to read.
        ids: int[B, S], whole sequences as they are; no BOS is added.
        template: as for `score`; with one, only the tokens between are replaced.
        read: as for `score`.
        alternatives: tokens to put in each token's place (K), or as many as there are.

    Returns:
        Alternatives [B, T, K] and the feature with each, for T tokens.

    Raises:
        EpoError: ids that the model cannot take, too few of them, or no alternatives.
    """
    if isinstance(alternatives, bool) or not isinstance(alternatives, int) or alternatives < 1:
        raise EpoError(f"alternatives={alternatives}: must be a whole number of at least 1")
    scorer, prompts = split(lm, feature, ids, template, read)
    allowed = allowed_tokens(lm.tokenizer, lm.config.vocab_size)
    check_allowed(lm, allowed)
    baseline, chosen, values = replaced(
        scorer, np.asarray(prompts), np.zeros(len(prompts), np.int32), jnp.asarray(allowed), alternatives
    )
    return with_texts(feature.name, np.asarray(prompts), baseline, chosen, values, lm.tokenizer)


def replaced(
    scorer: LanguageModelScorer | TwoModelScorer,
    ids: Int32[np.ndarray, "B T"],
    dream: Int32[np.ndarray, " B"],
    allowed: Vocabulary,
    alternatives: int = ALTERNATIVES,
    at_once: int | None = None,
    micro_batch: int | None = None,
) -> tuple[Float32[np.ndarray, " B"], Int32[np.ndarray, "B T K"], Float32[np.ndarray, "B T K"]]:
    """The feature of prompts, alternatives to each of their tokens, and the feature with each alternative.

    Args:
        scorer: of the prompts; only its features are computed.
        ids: int32[B, T], with pads behind the last tokens of prompts that have fewer.
        dream: int32[B], which of the scorer's features is read on each prompt.
        allowed: bool[V], the tokens that may be alternatives.
        alternatives: of each token (K), or as many as there are.
        at_once: prompts in one call of the compiled program, whatever their number; by default as many as there are,
            within limits.
        micro_batch: rows of tokens that evaluation runs as one block; by default what suits the device.

    Returns:
        float32[B], int32[B, T, K] with the greatest gradient first, and float32[B, T, K]; in the places of pads there
        are pads, and NaN.
    """
    of_feature = scorer.feature if isinstance(scorer, TwoModelScorer) else scorer
    vocabulary, (count, length) = of_feature.vocabulary, ids.shape
    # A token that is allowed itself is no alternative to itself.
    alternatives = min(alternatives, int(np.asarray(allowed).sum()) - 1)
    limit = max(1, rows_of_logits(vocabulary) // length)
    size = min(limit, at_once or min(count, AT_ONCE))
    platform = next(iter(jax.tree.leaves(scorer)[0].devices())).platform
    blocks = default_blocks(size * length * alternatives, length, of_feature.after, platform, micro_batch)
    of_feature = dataclasses.replace(of_feature, fluency=False, blocks=blocks)
    # What fills up the last group holds no prompt, and its candidates take no rows.
    groups = -(-count // size)
    there = ids != PAD
    lengths = None if there.all() else there.sum(axis=1, dtype=np.int32)
    filled = np.where(there, ids, 0)
    place = np.arange(groups * size)
    source = np.where(place < count, place, 0)
    found = []
    for start in range(0, groups * size, size):
        part = source[start : start + size]
        used = place[start : start + size] < count
        own = None if lengths is None else lengths[part]
        found.append(fetched(_replaced(of_feature, filled[part], dream[part], own, used, allowed, alternatives)))
    baseline, chosen, values = (np.concatenate(arrays)[:count] for arrays in zip(*found, strict=True))
    return baseline, np.where(there[..., None], chosen, PAD), np.where(there[..., None], values, np.float32(np.nan))


@functools.partial(jax.jit, static_argnums=6)
def _replaced(
    scorer: LanguageModelScorer,
    ids: Int32[Array, "G T"],
    dream: Int32[Array, " G"],
    lengths: Int32[Array, " G"] | None,
    used: Bool[Array, " G"],
    allowed: Vocabulary,
    alternatives: int,
) -> tuple[Float32[Array, " G"], Int32[Array, "G T K"], Float32[Array, "G T K"]]:
    count, length = ids.shape
    gradients, parents = scorer.gradients(ids, jnp.zeros(count, jnp.float32), dream, lengths)
    own = (jnp.full_like(dream, length) if lengths is None else lengths)[:, None]
    chosen = top_tokens(gradients, ids, allowed, alternatives).ids
    position = jnp.arange(length, dtype=jnp.int32)
    here = position[:, None, None] == position
    changed = jnp.where(here, chosen[..., None], ids[:, None, None, :]).reshape(count, -1, length)
    # The prompt itself is scored in the same way, so that a drop is free of what two ways of computing differ by.
    whole = jnp.concatenate([changed, ids[:, None]], axis=1)
    every = jnp.broadcast_to(jnp.repeat(position, alternatives), (count, length * alternatives))
    edits = jnp.concatenate([every, own - 1], axis=1)
    each = whole.shape[1]
    prompt = jnp.repeat(jnp.arange(count, dtype=jnp.int32), each)
    scores = scorer.evaluate(
        parents,
        Candidates(whole.reshape(-1, length), prompt, dream[prompt]),
        edits.reshape(-1),
        # Behind a prompt's end nothing is replaced.
        jnp.where(used[:, None] & (edits < own), own, 0).reshape(-1),
    )
    feature = scores.feature.reshape(count, each)
    return feature[:, -1], chosen, feature[:, :-1].reshape(chosen.shape)
