"""The activation of an autoencoder's latent, which is recorded beside the pre-activation that is searched."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int, Int32
from numpy.typing import ArrayLike

from epo_jax.axes import Sequences
from epo_jax.errors import EpoError
from epo_jax.features.base import Feature
from epo_jax.features.negated import Negated
from epo_jax.features.sae import Latent
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import Decoder, Observer
from epo_jax.models.language_model import checked_ids
from epo_jax.parallel.placing import fetched
from epo_jax.scoring.reading import LAST, parse_reading
from epo_jax.scoring.template import NOTHING, Template, frozen_tokens

# Prompts that are run at once, so that what is read at all their tokens is small.
GROUP = 64


def latent_of(feature: Feature) -> Latent | None:
    """The latent that a feature is, or that it turns round; None for other features, which have no activation."""
    while isinstance(feature, Negated):
        feature = feature.feature
    return feature if isinstance(feature, Latent) else None


def activation(
    lm: LanguageModel, feature: Feature, ids: ArrayLike, template: Template | None = None, *, read: str | int = LAST
) -> Float32[np.ndarray, " B"]:
    """What SAELens's `encode` gives for a latent, of whole sequences as they are; no BOS is added.

    Args:
        lm: the model.
        feature: a latent, or a latent turned round, which has the same activation.
        ids: int[B, S].
        template: what stands around the optimized tokens, as for `score`.
        read: as for `score`; with "max" the largest activation among the optimized tokens.

    Returns:
        float32[B], 0 where the latent is off.

    Raises:
        EpoError: a feature that is no latent, or ids that the model cannot take.
    """
    latent, sequences = _checked(feature), checked_ids(lm, ids)
    frozen = NOTHING if template is None else frozen_tokens(lm, template)
    start, suffix = len(frozen.prefix), len(frozen.suffix)
    width = sequences.shape[1] - start
    if width - suffix < 1:
        raise EpoError(f"ids: {sequences.shape[1]} tokens leave none between those of the template")
    reading = parse_reading(read, start, width - suffix, suffix)
    places = reading.places(jnp.asarray([width - suffix], jnp.int32), start, suffix, width)
    columns = start + np.flatnonzero(places.read[0])
    return _at_columns(lm, latent, sequences, columns).max(axis=1)


def token_activations(lm: LanguageModel, feature: Feature, ids: ArrayLike) -> Float32[np.ndarray, "B S"]:
    """What SAELens's `encode` gives for a latent at each token of whole sequences as they are; no BOS is added.

    Args:
        lm: the model.
        feature: a latent, or a latent turned round.
        ids: int[B, S].

    Raises:
        EpoError: a feature that is no latent, or ids that the model cannot take.
    """
    latent, sequences = _checked(feature), checked_ids(lm, ids)
    return _at_columns(lm, latent, sequences, np.arange(sequences.shape[1]))


def _checked(feature: Feature) -> Latent:
    latent = latent_of(feature)
    if latent is None:
        raise EpoError(f"--feature={feature.name}: has no activation; latents of autoencoders do")
    return latent


def _at_columns(
    lm: LanguageModel, latent: Latent, sequences: Sequences, columns: Int[np.ndarray, " n"]
) -> Float32[np.ndarray, "B n"]:
    found = [
        _inputs(lm.graphdef, lm.params, latent, sequences[first : first + GROUP])[:, columns]
        for first in range(0, len(sequences), GROUP)
    ]
    inputs = np.concatenate(fetched(found))
    active = latent.activations(inputs.reshape(-1, inputs.shape[-1]))
    return active.reshape(inputs.shape[:2])


@functools.partial(jax.jit, static_argnums=0)
def _inputs(
    graphdef: nnx.GraphDef[Decoder], params: nnx.State, latent: Latent, ids: Sequences
) -> Float32[Array, "B S N"]:
    """What the autoencoder reads at every token."""
    decoder = nnx.merge(graphdef, params)

    def observe(
        kept: Float32[Array, "B S N"], _site: str, layer: Int32[Array, ""], value: Float[Array, "B S ..."]
    ) -> Float32[Array, "B S N"]:
        return jnp.where(layer == latent.layer, jax.vmap(jax.vmap(latent.read))(value), kept)

    empty = jnp.zeros((*ids.shape, *latent.encoder.shape), jnp.float32)
    _, inputs, _ = decoder(decoder.embed(ids), Observer(latent.sites, observe), empty)
    return inputs
