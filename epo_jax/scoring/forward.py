"""One pass of a language model over prompts: the feature at the last token, and the logits of scored tokens."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.axes import Hidden
from epo_jax.features.base import LOGITS, Feature, Kept
from epo_jax.models.decoder import Decoder, Observer


@dataclasses.dataclass(frozen=True)
class Span:
    """Where the optimized tokens stand in a sequence.

    Attributes:
        start: position of the first (length of the prefix).
        length: their number, at least 1.
    """

    start: int
    length: int

    @property
    def first_scored(self) -> int:
        """The first optimized token that has a predecessor, counted from the first optimized token."""
        return 0 if self.start else 1

    @property
    def predictors(self) -> slice:
        """Positions whose logits predict the scored tokens."""
        return slice(self.start + self.first_scored - 1, self.start + self.length - 1)


def forward(
    decoder: Decoder, feature: Feature, embeddings: Hidden, last: Int32[Array, " B"], span: Span
) -> tuple[Float32[Array, " B"], Float32[Array, "B scored V"]]:
    """Run prompts through the model.

    Args:
        decoder: the model.
        feature: what to read.
        embeddings: dtype[B, S, D].
        last: int32[B], position of each prompt's last token.
        span: where the optimized tokens stand.

    Returns:
        The feature at the last token, float32[B], and the logits that predict the scored tokens, float32[B, n, V].
    """
    observer = Observer(feature.sites, functools.partial(_observe, feature))
    batch, length, _ = embeddings.shape
    empty = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, length, *leaf.shape)), feature.empty())
    hidden, kept, _ = decoder(embeddings, observer, empty)
    kept, at_last = jax.tree.map(lambda leaf: leaf[jnp.arange(batch), last], (kept, hidden))
    if LOGITS in feature.sites:
        above = jnp.int32(decoder.config.layers)
        kept = jax.vmap(lambda k, value: feature.observe(k, LOGITS, above, value))(kept, decoder.unembed(at_last))
    return jax.vmap(feature.read)(kept), decoder.unembed(hidden[:, span.predictors])


def _observe(feature: Feature, kept: Kept, site: str, layer: Int32[Array, ""], value: Array) -> Kept:
    return jax.vmap(jax.vmap(lambda k, v: feature.observe(k, site, layer, v)))(kept, value)
