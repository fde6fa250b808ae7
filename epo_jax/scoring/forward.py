"""One pass of a language model over sequences: what a feature sees of every token, and the surprisal of tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.axes import Hidden
from epo_jax.features.base import LOGITS, NEXT, OUTSIDE, Feature, Kept, Places, Values
from epo_jax.models.decoder import Decoder, KeysValues, Observer

# Logits that are in memory at one time, in bytes.
LOGIT_BYTES = 256 * 2**20


def rows_of_logits(vocabulary: int) -> int:
    """Rows whose logits may be in memory at one time."""
    return max(1, LOGIT_BYTES // (4 * vocabulary))


def features_for(features: Feature, dream: Int32[Array, " rows"]) -> tuple[Feature, int | None]:
    """Each row's feature out of a stack [R, ...], and the axis to map over: none where all rows have the same."""
    if jax.tree.leaves(features)[0].shape[0] == 1:
        return jax.tree.map(lambda leaf: leaf[0], features), None
    return jax.tree.map(lambda leaf: leaf[dream], features), 0


def observer_of(features: Feature, axis: int | None, inner: int = 0) -> Observer:
    """The observer of rows, each by its own feature (or all by one, where axis is None).

    Args:
        features: as `features_for` gives them.
        axis: likewise.
        inner: axes of values behind the first that belong to the rows of one feature, such as the tokens of a prompt.
    """

    def observe(kept: Kept, site: str, layer: Array, value: Array) -> Kept:
        def one(feature: Feature, kept: Kept, value: Array) -> Kept:
            return feature.observe(kept, site, layer, value)

        for _ in range(inner):
            one = jax.vmap(one, (None, 0, 0))
        return jax.vmap(one, (axis, 0, 0))(features, kept, value)

    return Observer(features.sites, observe)


def empty_kept(features: Feature, axis: int | None, shape: tuple[int, ...]) -> Kept:
    """What features keep of rows before any site was seen; the first axis of `shape` is mapped over features."""
    one = features.empty() if axis is None else jax.tree.map(lambda leaf: leaf[0], features).empty()
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*shape, *leaf.shape)), one)


def run(
    decoder: Decoder,
    features: Feature,
    dream: Int32[Array, " B"],
    embeddings: Hidden,
    following: Int32[Array, "B S"],
    shown: Int32[Array, "B k"] | None,
    past: KeysValues | None = None,
) -> tuple[Values, Hidden, KeysValues]:
    """Run sequences through the model.

    Args:
        decoder: the model.
        features: a stack [R, ...].
        dream: int32[B], which of them is read in each sequence.
        embeddings: dtype[B, S, D].
        following: int32[B, S], the token after each.
        shown: int32[B, k], tokens at which features that read the head's output may do so; elsewhere values that come
            from it mean nothing.
        past: keys and values [L, n, ...] of tokens that stand before all sequences.

    Returns:
        The features' values, arrays with the leading axes [B, S], the normed final residual stream, and keys and values
        [L, B, S, ...].
    """
    features, axis = features_for(features, dream)
    batch, length, _ = embeddings.shape
    observer = observer_of(features, axis, inner=1)
    kept = empty_kept(features, axis, (batch, length))
    hidden, kept, cache = decoder(embeddings, observer, kept, past)
    if shown is not None and set(features.sites) & set(OUTSIDE):
        kept = _observe_head(decoder, features, axis, kept, hidden, following, shown)
    return jax.vmap(jax.vmap(_value, (None, 0)), (axis, 0))(features, kept), hidden, cache


def _value(feature: Feature, kept: Kept) -> Values:
    return feature.value(kept)


def totals(
    features: Feature, axis: int | None, values: Values, places: Places, before: Values | None
) -> Float32[Array, " B"]:
    """The features of prompts, given the values of their columns.

    Args:
        features: as `features_for` gives them.
        axis: likewise.
        values: arrays [B, W, ...].
        places: what the columns mean.
        before: arrays [B, n, ...] of the prefix's tokens; None where no feature reads them.
    """
    return jax.vmap(lambda feature, *rest: feature.total(*rest), (axis, 0, 0, 0))(features, values, places, before)


def _observe_head(
    decoder: Decoder,
    features: Feature,
    axis: int | None,
    kept: Kept,
    hidden: Hidden,
    following: Int32[Array, "B S"],
    shown: Int32[Array, "B k"],
) -> Kept:
    """Show the head's output at the tokens at which the features may read it, and at no others."""
    observe = observer_of(features, axis, inner=1).at(jnp.int32(decoder.config.layers))
    place = (jnp.arange(shown.shape[0])[:, None], shown)
    logits = decoder.unembed(hidden[place])
    seen = observe(jax.tree.map(lambda leaf: leaf[place], kept), LOGITS, logits)
    if NEXT in features.sites:
        seen = observe(seen, NEXT, -surprisal(logits, following[place])[0])
    return jax.tree.map(lambda leaf, new: leaf.at[place].set(new), kept, seen)


def surprisal(
    logits: Float32[Array, "*rows V"], tokens: Int32[Array, "*rows"]
) -> tuple[Float32[Array, "*rows"], Float32[Array, "*rows"]]:
    """Nats of each token under the logits that predict it, and the logits' log-normalizer."""
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
    return normalizer - chosen, normalizer


def predictors_of(hidden: Float[Array, "B T D"], before: Float[Array, " D"] | None) -> Float[Array, "B T D"]:
    """For each optimized token the row that predicts it.

    Args:
        hidden: rows of the optimized tokens.
        before: the prefix's last row; without one the first token is not predicted, and its row is zero.
    """
    first = jnp.zeros_like(hidden[:, :1]) if before is None else jnp.broadcast_to(before, hidden[:, :1].shape)
    return jnp.concatenate([first, hidden[:, :-1]], axis=1)
