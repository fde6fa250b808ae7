"""Gradients and scores of prompts under a language model: the two functions that a search needs."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.axes import Hidden
from epo_jax.epo.groups import in_groups
from epo_jax.epo.scorer import Candidates, Scores
from epo_jax.features.base import EVERY, OUTSIDE, READ, Feature, Values
from epo_jax.models.decoder import Decoder, KeysValues
from epo_jax.scoring.forward import features_for, predictors_of, rows_of_logits, run, surprisal, totals
from epo_jax.scoring.packing import Blocks
from epo_jax.scoring.parents import ParentRows, Prefix
from epo_jax.scoring.reading import Reading
from epo_jax.scoring.suffix import suffix_scores

STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LanguageModelScorer:
    """Features of a language model and the fluency of prompts under it.

    Attributes:
        params: the model's parameters.
        features: a stack [R, ...] of features of one kind, one for each dream.
        reading: where they are read.
        prefix: int32[n], frozen tokens before the optimized ones, a BOS included.
        suffix: int32[R, m], frozen tokens after them, the last ones being each dream's target.
        past: what running the prefix left; None without one.
        graphdef: the model's structure.
        blocks: sizes of the work on candidates.
        fluency: whether cross-entropies are computed; otherwise they are 0, and what only they need is not run.
    """

    params: nnx.State
    features: Feature
    reading: Reading
    prefix: Int32[Array, " n"]
    suffix: Int32[Array, "R m"]
    past: Prefix | None
    graphdef: nnx.GraphDef[Decoder] = dataclasses.field(metadata=STATIC)
    blocks: Blocks = dataclasses.field(metadata=STATIC)
    fluency: bool = dataclasses.field(default=True, metadata=STATIC)

    @property
    def decoder(self) -> Decoder:
        """The model."""
        return nnx.merge(self.graphdef, self.params)

    def with_blocks(self, blocks: Blocks) -> LanguageModelScorer:
        """The same with other sizes of the work on candidates."""
        return dataclasses.replace(self, blocks=blocks)

    def of_dream(self, dream: Int32[Array, ""]) -> LanguageModelScorer:
        """The scorer of one of the dreams, for whole prompts."""
        features = jax.tree.map(lambda leaf: leaf[dream][None], self.features)
        # The suffix is the same for all but for targets, and then nothing of the model depends on the dream.
        suffix = self.suffix[dream][None] if self.reading.target else self.suffix[:1]
        return dataclasses.replace(self, features=features, suffix=suffix)

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows."""
        return self.decoder.config.vocab_size

    @property
    def after(self) -> int:
        """Tokens after the optimized ones."""
        return self.suffix.shape[1]

    @property
    def first_scored(self) -> int:
        """The first optimized token that has a predecessor."""
        return 0 if len(self.prefix) else 1

    def gradients(
        self,
        ids: Int32[Array, "N T"],
        penalties: Float32[Array, " N"],
        dream: Int32[Array, " N"],
        length: Int32[Array, " N"] | None = None,
    ) -> tuple[Float32[Array, "N T V"], ParentRows]:
        """Gradient of each prompt's objective under its own penalty with respect to its one-hot tokens.

        A one-hot token enters twice: through its embedding, as the model scales it, and as the label that the token
        before it is scored against. Both count (dreamy's `token_grads` is the same function of the one-hot matrix).
        The second part is the log-probability times the penalty over the number of scored tokens.

        Args:
            ids: int32[N, T].
            penalties: float32[N].
            dream: int32[N], which feature is read.
            length: int32[N], optimized tokens of each prompt, those beyond being left out; None where all have T.

        Returns:
            float32[N, T, V], 0 at tokens that are left out, and what evaluation needs of these prompts.
        """
        decoder, width, first = self.decoder, ids.shape[1], self.first_scored
        embeddings = self._embedded(ids, dream, length)
        lengths = jnp.full(ids.shape[0], width, jnp.int32) if length is None else length
        own = None if length is None else jnp.arange(width) < length[:, None]

        def total(tokens: Hidden) -> tuple[Float32[Array, ""], tuple[ParentRows, Float32[Array, "N scored V"] | None]]:
            inputs = jnp.concatenate([tokens, embeddings[:, width:]], axis=1)
            parents, logits = self._rows_of(decoder, ids, dream, inputs, length)
            nats = parents.surprisal[:, first:].mean(axis=-1, where=None if own is None else own[:, first:])
            return (self.totals(parents.values, dream, lengths) - penalties * nats).sum(), (parents, logits)

        of_embeddings, (parents, logits) = jax.grad(total, has_aux=True)(embeddings[:, :width])
        gradient = decoder.embedding_gradient(of_embeddings)
        if logits is not None:
            share = (penalties / ((width if length is None else length) - first))[:, None, None]
            of_labels = share * (logits - parents.normalizer[:, first:, None])
            gradient = gradient + jnp.pad(of_labels, ((0, 0), (first, 0), (0, 0)))
        return gradient if own is None else jnp.where(own[..., None], gradient, 0), parents

    def parents(
        self, ids: Int32[Array, "N T"], dream: Int32[Array, " N"], length: Int32[Array, " N"] | None = None
    ) -> ParentRows:
        """What evaluation needs of prompts, by a forward pass; see `gradients`."""
        return self._rows_of(self.decoder, ids, dream, self._embedded(ids, dream, length), length)[0]

    def log_probs(self, parents: ParentRows) -> Float32[Array, "N T V"]:
        """Log-probability of every token at each position, given those before; 0 where a token has no predecessor."""
        logits = self.decoder.unembed(parents.predictors[:, self.first_scored :])
        found = logits - parents.normalizer[:, self.first_scored :, None]
        return jnp.pad(found, ((0, 0), (self.first_scored, 0), (0, 0)))

    def _embedded(
        self, ids: Int32[Array, "N T"], dream: Int32[Array, " N"], length: Int32[Array, " N"] | None
    ) -> Hidden:
        sequences = self.after_prefix(ids, dream, length)
        return self.decoder.embed(sequences, len(self.prefix) + jnp.arange(sequences.shape[1]))

    def _rows_of(
        self,
        decoder: Decoder,
        ids: Int32[Array, "N T"],
        dream: Int32[Array, " N"],
        inputs: Hidden,
        length: Int32[Array, " N"] | None,
    ) -> tuple[ParentRows, Float32[Array, "N scored V"] | None]:
        """What is kept of prompts, given the embeddings of all their tokens, and the logits of scored ones."""
        width, first = ids.shape[1], self.first_scored
        shown = self.shown(jnp.full(ids.shape[0], width, jnp.int32) if length is None else length, width)
        if shown is not None and length is not None and READ in self.features.reads:
            # A child of another length may be read at any token that it has of its parent.
            shown = jnp.broadcast_to(jnp.arange(inputs.shape[1], dtype=jnp.int32), inputs.shape[:2])
        past, before = (None, None) if self.past is None else (self.past.keys_values, self.past.hidden)
        next_tokens = following(self.after_prefix(ids, dream, length))
        values, hidden, cache = run(decoder, self.features, dream, inputs, next_tokens, shown, past)
        predictors = predictors_of(hidden[:, :width], before)
        logits, nats = None, jnp.zeros((ids.shape[0], width - first), jnp.float32)
        normalizer = nats
        if self.fluency:
            logits = decoder.unembed(predictors[:, first:])
            nats, normalizer = surprisal(logits, ids[:, first:])
        unscored = ((0, 0), (first, 0))
        parents = ParentRows(
            keys_values=jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), cache),
            predictors=predictors,
            normalizer=jnp.pad(normalizer, unscored),
            surprisal=jnp.pad(nats, unscored),
            values=values,
        )
        return parents, logits

    def evaluate(
        self,
        parents: ParentRows | None,
        candidates: Candidates,
        first_edit: Int32[Array, " C"],
        length: Int32[Array, " C"],
    ) -> Scores:
        """Scores of candidates.

        Args:
            parents: rows of the prompts that they were made from, so that only their tokens from the first edit on are
                run; None to run them whole.
            candidates: the prompts.
            first_edit: int32[C]; tokens before it are the parent's.
            length: int32[C], optimized tokens of each candidate, those beyond being left out; 0 for no candidate, and
                otherwise at least one token must have a predecessor.
        """
        if parents is not None:
            return suffix_scores(self, parents, candidates, first_edit, length)
        width = candidates.ids.shape[1]
        rows = max(1, rows_of_logits(self.decoder.config.vocab_size) // width)
        return in_groups(lambda part: self.whole(*part), (candidates.ids, candidates.dream, length), rows)

    def whole(self, ids: Int32[Array, "C T"], dream: Int32[Array, " C"], length: Int32[Array, " C"]) -> Scores:
        """Scores of whole prompts, prefix included: the definition that every faster way is held against."""
        decoder, first, start = self.decoder, self.first_scored, len(self.prefix)
        prefix = jnp.broadcast_to(self.prefix, (ids.shape[0], start))
        tokens = jnp.concatenate([prefix, self.after_prefix(ids, dream, length)], axis=1)
        shown = self.shown(length, ids.shape[1])
        shown = None if shown is None else start + shown
        values, hidden, _ = run(decoder, self.features, dream, decoder.embed(tokens), following(tokens), shown)
        own, before = (jax.tree.map(part, values) for part in (lambda a: a[:, start:], lambda a: a[:, :start]))
        feature = self._totals(own, dream, length, before if start else None)
        if not self.fluency:
            return Scores(feature, jnp.zeros_like(feature))
        predictors = hidden[:, start + first - 1 : start + ids.shape[1] - 1]
        nats, _ = surprisal(decoder.unembed(predictors), ids[:, first:])
        scored = jnp.arange(first, ids.shape[1]) < length[:, None]
        return Scores(feature, jnp.where(scored, nats, 0).sum(axis=-1) / jnp.maximum(scored.sum(axis=-1), 1))

    def totals(self, values: Values, dream: Int32[Array, " B"], length: Int32[Array, " B"]) -> Float32[Array, " B"]:
        """The features of prompts, given the values of all columns [B, W, ...] after the prefix."""
        before = None if self.past is None or self.past.values is None else self.past.values
        return self._totals(values, dream, length, jax.tree.map(lambda a: a[dream], before))

    def _totals(
        self, values: Values, dream: Int32[Array, " B"], length: Int32[Array, " B"], before: Values | None
    ) -> Float32[Array, " B"]:
        features, axis = features_for(self.features, dream)
        width = jax.tree.leaves(values)[0].shape[1]
        places = self.reading.places(length, len(self.prefix), self.after, width)
        return totals(features, axis, values, places, before)

    def shown(self, length: Int32[Array, " B"], optimized: int) -> Int32[Array, "B k"] | None:
        """The columns whose head's output features may read; None where they read none of it."""
        if not set(self.features.sites) & set(OUTSIDE):
            return None
        return self.reading.shown(self.features.reads, length, len(self.prefix), self.after, optimized)

    def after_prefix(
        self, ids: Int32[Array, "C T"], dream: Int32[Array, " C"], length: Int32[Array, " C"] | None = None
    ) -> Int32[Array, "C W"]:
        """Optimized tokens, suffix and target; the suffix follows the last optimized token of each prompt."""
        width = ids.shape[1]
        whole = jnp.concatenate([ids, self.suffix[dream]], axis=1)
        if length is None:
            return whole
        # Positions from the end of a short prompt on take the suffix's tokens; causal attention never sees the rest.
        position = jnp.arange(whole.shape[1])
        source = position + jnp.where(position >= length[:, None], (width - length)[:, None], 0)
        return jnp.take_along_axis(whole, jnp.minimum(source, whole.shape[1] - 1), axis=1)


def following(tokens: Int32[Array, "C W"]) -> Int32[Array, "C W"]:
    """The token after each; 0 after the last."""
    return jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))


def run_prefix(decoder: Decoder, prefix: Int32[Array, " n"], features: Feature) -> Prefix:
    """What sequences that start with a prefix may reuse of it.

    Args:
        decoder: the model.
        prefix: its tokens.
        features: a stack [R, ...].
    """
    dreams = jax.tree.leaves(features)[0].shape[0] if EVERY in features.reads else 1
    tokens = jnp.broadcast_to(prefix, (dreams, len(prefix)))
    dream = jnp.arange(dreams, dtype=jnp.int32)
    values, hidden, cache = run(decoder, features, dream, decoder.embed(tokens), following(tokens), None)
    return Prefix(
        KeysValues(cache.keys[:, 0], cache.values[:, 0]), hidden[0, -1], values if EVERY in features.reads else None
    )
