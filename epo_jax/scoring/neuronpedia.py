"""Activations token by token in the form in which Neuronpedia's API gives them.

Field names are those of what https://www.neuronpedia.org/api/feature/MODEL/LAYER/INDEX answers: a feature has modelId,
layer, index and activations, each of which has tokens, values, maxValue, maxValueTokenIndex and minValue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from epo_jax.errors import EpoError
from epo_jax.features import Feature
from epo_jax.models import LanguageModel
from epo_jax.models.tokenizers import texts_by_id
from epo_jax.scoring.activation import latent_of, token_activations
from epo_jax.scoring.template import Template
from epo_jax.scoring.texts import score_texts

_NEURON = re.compile(r"-?L(\d+)\.N(\d+)")
_LATENT = re.compile(r"-?sae:(.+):(\d+)")


def named_by(feature: str, model: str, layer: str | None = None, index: str | None = None) -> dict[str, str]:
    """modelId, layer and index of a feature.

    Args:
        feature: its string.
        model: the model's name.
        layer: what stands for its layer or source; by default a neuron's layer, a latent's autoencoder, and of other
            features the whole string.
        index: its number there; by default a neuron's or latent's own, and of other features 0.
    """
    match = _NEURON.fullmatch(feature) or _LATENT.fullmatch(feature)
    own = match.groups() if match else (feature, "0")
    return {"modelId": model, "layer": layer or own[0], "index": own[1] if index is None else index}


def records(
    lm: LanguageModel,
    feature: Feature,
    sequences: Sequence[Int32[np.ndarray, " _"]],
    prefix: Int32[np.ndarray, " m"] | None = None,
) -> list[dict[str, Any]]:
    """What Neuronpedia calls activations, the largest maximum first.

    Args:
        lm: the model.
        feature: read at each token; of an autoencoder's latent its activation is taken.
        sequences: tokens, of any lengths.
        prefix: tokens that stand before all of them, and are left out of the records.

    Raises:
        EpoError: a feature that is no number at each token, or sequences that the model cannot take.
    """
    before = np.zeros(0, np.int32) if prefix is None else prefix
    whole = [np.concatenate([before, ids]) for ids in sequences]
    found = [
        _record(lm, ids, values[len(before) :])
        for ids, values in zip(sequences, _values(lm, feature, whole), strict=True)
    ]
    return sorted(found, key=lambda record: -record["maxValue"])


def _values(
    lm: LanguageModel, feature: Feature, whole: Sequence[Int32[np.ndarray, " _"]]
) -> list[Float32[np.ndarray, " _"]]:
    if latent_of(feature) is not None:
        width = max(map(len, whole), default=1)
        # What stands behind a sequence changes nothing of it.
        ids = np.stack([np.pad(one, (0, width - len(one))) for one in whole]) if whole else np.zeros((0, 1), np.int32)
        return [values[: len(one)] for one, values in zip(whole, token_activations(lm, feature, ids), strict=True)]
    scores = score_texts(lm, [feature] * len(whole), [ids.tolist() for ids in whole], Template(bos="never"))
    values = [one.at_tokens for one in scores if one.at_tokens is not None]
    if len(values) != len(whole):
        raise EpoError(f"to_neuronpedia: {feature.name} is not a number at each token, as Neuronpedia has them")
    return values


def _record(lm: LanguageModel, ids: Int32[np.ndarray, " n"], values: Float32[np.ndarray, " n"]) -> dict[str, Any]:
    text = texts_by_id(lm.tokenizer, ids)
    return {
        "tokens": [text[token] for token in ids.tolist()],
        "values": values.tolist(),
        "maxValue": float(values.max()),
        "maxValueTokenIndex": int(values.argmax()),
        "minValue": float(values.min()),
    }
