"""Scores of texts of different lengths, whole and token by token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.epo.scorer import Candidates
from epo_jax.errors import EpoError
from epo_jax.features.base import READ, Feature, Places
from epo_jax.models import LanguageModel
from epo_jax.models.text_tokens import shown, tokens_of
from epo_jax.parallel.placing import fetched
from epo_jax.scoring.assemble import check_length, language_model_scorer, placed_features, targets_of
from epo_jax.scoring.forward import features_for, rows_of_logits, run, surprisal, totals
from epo_jax.scoring.reading import LAST, parse_reading
from epo_jax.scoring.scorer import LanguageModelScorer, following
from epo_jax.scoring.template import FrozenTokens, Template, frozen_tokens

# Texts are filled up to a multiple of this, so that few programs serve all lengths.
STEP = 16
MOST_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class TextScores:
    """Scores of one text.

    Attributes:
        ids: int32[S], the whole sequence: prefix, text and suffix.
        first: position of the text's first token.
        stop: position behind its last.
        feature: of the whole.
        cross_entropy: mean nats of those of the text's tokens that have a predecessor.
        surprisal: float32[S], nats of each token; NaN for the first.
        at_tokens: float32[S], the feature if it were read at each token; None for features that are not read at one.
    """

    ids: Int32[np.ndarray, " S"]
    first: int
    stop: int
    feature: float
    cross_entropy: float
    surprisal: Float32[np.ndarray, " S"]
    at_tokens: Float32[np.ndarray, " S"] | None


def text_ids(lm: LanguageModel, text: str, frozen: FrozenTokens, name: str = "--text") -> list[int]:
    """A text's tokens behind a prefix, enough of them to be scored.

    Args:
        lm: the model.
        text: what is tokenized, by itself.
        frozen: tokens around it.
        name: the flag that gave it, for errors.

    Raises:
        EpoError: `tokens_of`'s, no tokens, or a single one that has no predecessor.
    """
    ids = tokens_of(lm, text, name, inside=len(frozen.prefix) > 0)
    if not ids:
        raise EpoError(f"{name}={shown(text)}: has no tokens")
    if len(ids) == 1 and not len(frozen.prefix):
        raise EpoError(
            f"{name}={shown(text)}: is a single token, which has no predecessor to score it by; give a --prefix or "
            "--bos=always"
        )
    return ids


def score_texts(
    lm: LanguageModel,
    features: Sequence[Feature],
    texts: Sequence[Sequence[int]],
    template: Template | None = None,
    *,
    read: str | int = LAST,
) -> list[TextScores]:
    """Scores of texts, each with its own feature, of any kinds.

    Args:
        lm: the model.
        features: one for each text.
        texts: their tokens, as `text_ids` gives them.
        template: frozen text around each; by default nothing but the BOS that the tokenizer adds.
        read: "last", "max" or a position in the whole sequence.

    Returns:
        One for each text.

    Raises:
        EpoError: a text that is too long, or a position that it does not have.
    """
    frozen = frozen_tokens(lm, template or Template())
    around = len(frozen.prefix) + len(frozen.suffix)
    placed: list[Feature] = []
    together: dict[tuple[object, object, int], list[int]] = {}
    for number, (feature, text) in enumerate(zip(features, texts, strict=True)):
        one = placed_features([feature], around + len(text))
        check_length(lm, len(text), frozen, one)
        target = targets_of(one).shape[1]
        parse_reading(read, len(frozen.prefix), len(text), len(frozen.suffix), target)
        width = min(-(-len(text) // STEP) * STEP, lm.config.max_positions - around - target)
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(one))
        together.setdefault((jax.tree.structure(one), shapes, width), []).append(number)
        placed.append(one)
    scores: dict[int, TextScores] = {}
    for (_, _, width), numbers in together.items():
        at_once = min(len(numbers), MOST_AT_ONCE, max(1, rows_of_logits(lm.config.vocab_size) // (around + width)))
        for start in range(0, len(numbers), at_once):
            part = numbers[start : start + at_once]
            # The last group is filled up with copies of its first text, whose scores are dropped.
            filled = part + part[:1] * (at_once - len(part))
            found = _scored(lm, [placed[n] for n in filled], [texts[n] for n in filled], frozen, read, width)
            scores.update(zip(part, found, strict=False))
    return [scores[number] for number in range(len(texts))]


def _scored(
    lm: LanguageModel,
    placed: Sequence[Feature],
    texts: Sequence[Sequence[int]],
    frozen: FrozenTokens,
    read: str | int,
    width: int,
) -> list[TextScores]:
    stack = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *placed)
    scorer = language_model_scorer(lm, stack, frozen, read, width)
    ids = np.zeros((len(texts), width), np.int32)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    lengths = np.array([len(text) for text in texts], np.int32)
    whole, nats, feature, cross_entropy, at_tokens = fetched(_run(scorer, ids, lengths))
    before, after = len(frozen.prefix), len(frozen.suffix)
    found = []
    for number, length in enumerate(lengths.tolist()):
        stop = before + length + after
        each = None if at_tokens is None else at_tokens[number, :stop]
        scores = (float(feature[number]), float(cross_entropy[number]))
        found.append(TextScores(whole[number, :stop], before, before + length, *scores, nats[number, :stop], each))
    return found


@jax.jit
def _run(
    scorer: LanguageModelScorer, ids: Int32[Array, "B T"], length: Int32[Array, " B"]
) -> tuple[Int32[Array, "B S"], Float32[Array, "B S"], Float32[Array, " B"], Float32[Array, " B"], Array | None]:
    """Whole sequences, nats of their tokens, features, cross-entropies, and features at each token, [B, S]."""
    count, decoder, features = ids.shape[0], scorer.decoder, scorer.features
    dream = jnp.arange(count, dtype=jnp.int32)
    scores = scorer.evaluate(None, Candidates(ids, dream, dream), jnp.zeros(count, jnp.int32), length)
    prefix = jnp.broadcast_to(scorer.prefix, (count, len(scorer.prefix)))
    tokens = jnp.concatenate([prefix, scorer.after_prefix(ids, dream, length)], axis=1)
    column = jnp.arange(tokens.shape[1], dtype=jnp.int32)
    everywhere = jnp.broadcast_to(column, tokens.shape)
    values, hidden, _ = run(decoder, features, dream, decoder.embed(tokens), following(tokens), everywhere)
    nats, _ = surprisal(decoder.unembed(hidden[:, :-1]), tokens[:, 1:])
    nats = jnp.pad(nats, ((0, 0), (1, 0)), constant_values=jnp.nan)
    if features.reads != (READ,):
        return tokens, nats, scores.feature, scores.cross_entropy, None
    of_rows, axis = features_for(features, dream)

    def read_at(here: Int32[Array, ""]) -> Float32[Array, " B"]:
        mask = jnp.broadcast_to(column == here, tokens.shape)
        return totals(of_rows, axis, values, Places(mask, jnp.zeros_like(mask), jnp.ones_like(mask)), None)

    return tokens, nats, scores.feature, scores.cross_entropy, jax.lax.map(read_at, column).T
