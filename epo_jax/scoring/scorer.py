"""Gradients and scores of prompts under a language model: the two functions that a search needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.axes import Hidden, Prompts, Slots
from epo_jax.epo.scorer import Candidates, Scores
from epo_jax.features.base import Feature
from epo_jax.models.decoder import Decoder
from epo_jax.scoring.forward import Span, forward

STATIC = {"static": True}
# Logits that one block of prompts may bring, in bytes; more prompts are more blocks.
BLOCK_BYTES = 256 * 2**20


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LanguageModelScorer:
    """A feature of a language model and the fluency of prompts under it.

    Attributes:
        params: the model's parameters.
        feature: what is maximized.
        prefix: int32[n], frozen tokens before the optimized ones, a BOS included.
        suffix: int32[m], frozen tokens after them.
        graphdef: the model's structure.
    """

    params: nnx.State
    feature: Feature
    prefix: Int32[Array, " n"]
    suffix: Int32[Array, " m"]
    graphdef: nnx.GraphDef[Decoder] = dataclasses.field(metadata=STATIC)

    @property
    def decoder(self) -> Decoder:
        """The model."""
        return nnx.merge(self.graphdef, self.params)

    def gradients(self, ids: Prompts, penalties: Slots) -> tuple[Float32[Array, "P T V"], None]:
        """Gradient of each prompt's objective under its own penalty with respect to its one-hot tokens.

        A one-hot token enters twice: through its embedding, as the model scales it, and as the label that the token
        before it is scored against. Both count (dreamy's `token_grads` is the same function of the one-hot matrix).

        Args:
            ids: int32[P, T].
            penalties: float32[P].

        Returns:
            float32[P, T, V]; nothing is kept of the parents, since `evaluate` runs whole prompts.
        """
        decoder = self.decoder
        span = self._span(ids.shape[1])
        optimized = slice(span.start, span.start + span.length)
        embeddings = decoder.embed(self._sequences(ids))
        labels = jax.nn.one_hot(ids[:, span.first_scored :], decoder.config.vocab_size, dtype=jnp.float32)
        last = jnp.full(ids.shape[0], embeddings.shape[1] - 1)

        def total(tokens: Hidden, labels: Float32[Array, "P scored V"]) -> Float32[Array, ""]:
            feature, logits = forward(decoder, self.feature, embeddings.at[:, optimized].set(tokens), last, span)
            cross_entropy = optax.losses.softmax_cross_entropy(logits, labels).mean(axis=-1)
            return (feature - penalties * cross_entropy).sum()

        of_embeddings, of_labels = jax.grad(total, argnums=(0, 1))(embeddings[:, optimized], labels)
        return decoder.embedding_gradient(of_embeddings).at[:, span.first_scored :].add(of_labels), None

    def evaluate(
        self, parents: None, candidates: Candidates, first_edit: Int32[Array, " C"], length: Int32[Array, " C"]
    ) -> Scores:
        """Scores of candidates, each run whole, in blocks; what they share with their parents is computed again.

        Args:
            parents: nothing.
            candidates: the prompts.
            first_edit: not needed by whole runs.
            length: int32[C], optimized tokens of each candidate, of which at least one has a predecessor; those beyond
                are left out.
        """
        width = candidates.ids.shape[1]
        rows = max(1, BLOCK_BYTES // (4 * max(1, width) * self.decoder.config.vocab_size))

        return _in_blocks(lambda part: self._score(*part), (candidates.ids, length), rows)

    def _score(self, ids: Prompts, length: Int32[Array, " C"]) -> Scores:
        decoder = self.decoder
        span = self._span(ids.shape[1])
        last = len(self.prefix) + length + len(self.suffix) - 1
        embeddings = decoder.embed(self._sequences(ids, length))
        feature, logits = forward(decoder, self.feature, embeddings, last, span)
        surprisal = optax.losses.softmax_cross_entropy_with_integer_labels(logits, ids[:, span.first_scored :])
        scored = jnp.arange(span.first_scored, span.length) < length[:, None]
        return Scores(feature, jnp.where(scored, surprisal, 0).sum(axis=-1) / scored.sum(axis=-1))

    def _span(self, length: int) -> Span:
        return Span(len(self.prefix), length)

    def _sequences(self, ids: Prompts, length: Int32[Array, " C"] | None = None) -> Int32[Array, "C S"]:
        """Prefix, optimized tokens and suffix; the suffix follows the last optimized token of each prompt."""
        batch, width = ids.shape
        prefix, suffix = (jnp.broadcast_to(part, (batch, len(part))) for part in (self.prefix, self.suffix))
        whole = jnp.concatenate([prefix, ids, suffix], axis=1)
        if length is None:
            return whole
        # Positions from the end of a short prompt on take the suffix's tokens; causal attention never sees the rest.
        position = jnp.arange(whole.shape[1])
        moved = position >= (len(self.prefix) + length)[:, None]
        source = jnp.minimum(position + jnp.where(moved, (width - length)[:, None], 0), whole.shape[1] - 1)
        return jnp.take_along_axis(whole, source, axis=1)


Rows = tuple[Prompts, Int32[Array, " C"]]


def _in_blocks(function: Callable[[Rows], Scores], arrays: Rows, rows: int) -> Scores:
    """Apply a function to blocks of at most `rows` rows, one after the other, so that one block's memory is enough."""
    count = arrays[0].shape[0]
    blocks = -(-count // rows)
    if blocks == 1:
        return function(arrays)
    size = -(-count // blocks)
    # The last block is filled up with copies of the first row, whose results are dropped.
    padded = jax.tree.map(
        lambda a: jnp.concatenate([a, jnp.broadcast_to(a[:1], (blocks * size - count, *a.shape[1:]))]), arrays
    )
    results = jax.lax.map(function, jax.tree.map(lambda a: a.reshape(blocks, size, *a.shape[1:]), padded))
    return jax.tree.map(lambda a: a.reshape(blocks * size, *a.shape[2:])[:count], results)
