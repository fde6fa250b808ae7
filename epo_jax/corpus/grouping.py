"""Groups of features by name: all neurons of layers, all latents of an autoencoder, and lists of any others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from epo_jax.autoencoders.settings import TOPK
from epo_jax.corpus.groups import Group, Latents, Logits, Neurons, Others
from epo_jax.errors import EpoError
from epo_jax.features.base import READ, Feature
from epo_jax.features.logit import LogitDifference
from epo_jax.features.sae import parse as parse_latent
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import PATTERN
from epo_jax.scoring.assemble import stack_features


def neurons_of(lm: LanguageModel, layers: Sequence[int]) -> tuple[Neurons, list[str]]:
    """All neurons of layers, and their feature strings in the group's order.

    Raises:
        EpoError: a layer that the model does not have.
    """
    for layer in layers:
        if not 0 <= layer < lm.config.layers:
            raise EpoError(f"--neurons: the model has no layer {layer}; its layers are 0 to {lm.config.layers - 1}")
    ascending = sorted(set(layers))
    names = [f"L{layer}.N{index}" for layer in ascending for index in range(lm.config.mlp_width)]
    return Neurons(jnp.asarray(ascending, jnp.int32), lm.config.mlp_width), names


def latents_of(lm: LanguageModel, name: str) -> tuple[Latents, list[str]]:
    """All latents of an autoencoder, and their feature strings in the group's order.

    Raises:
        EpoError: no such autoencoder, or one that the model's features cannot be read by.
    """
    first = parse_latent(f"sae:{name}:0", lm)
    assert first is not None
    autoencoder = first.source.autoencoder
    numbers = autoencoder.every_latent(f"--latents={name}")
    count = autoencoder.d_sae
    stack = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), first)
    stack = dataclasses.replace(
        stack,
        encoder=jnp.asarray(numbers.encoder),
        **{
            name: jnp.asarray(getattr(numbers, name))
            for name in ("bias", "gain", "threshold", "magnitude_gain", "magnitude_bias")
        },
    )
    k = autoencoder.settings.k or 0 if first.architecture == TOPK else 0
    return Latents(stack, k), [f"sae:{name}:{index}" for index in range(count)]


def others_of(features: Sequence[Feature]) -> list[tuple[Group, list[str]]]:
    """Features of any kinds, those of one kind together, and their feature strings in each group's order.

    Raises:
        EpoError: a feature that is not one number at each token.
    """
    together: dict[Any, list[Feature]] = {}
    for feature in features:
        if feature.reads != (READ,):
            raise EpoError(
                f"--features={feature.name}: is not one number at each token, so no corpus is scanned for it"
            )
        if PATTERN in feature.sites:
            raise EpoError(f"--features={feature.name}: reads a position of the prompt, which a corpus does not have")
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(feature))
        together.setdefault((jax.tree.structure(feature), shapes), []).append(feature)
    return [(_group_of(stack_features(alike)), [one.name for one in alike]) for alike in together.values()]


def _group_of(features: Feature) -> Group:
    return Logits(features.token) if isinstance(features, LogitDifference) else Others(features)
