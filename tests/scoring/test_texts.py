"""Scores of texts of different lengths against those of each alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

import epo_jax
from epo_jax.scoring.texts import STEP, score_texts

TEXTS = ["The quick brown fox", "A cat sat on a mat, 12 times or 345 times, and ran away"]


def scored(lm: epo_jax.LanguageModel, feature: str, ids: list[int], template: epo_jax.Template, read) -> epo_jax.Scores:
    return epo_jax.score(lm, epo_jax.parse_feature(feature, lm), np.array([ids]), template, read=read)


@pytest.mark.parametrize(
    ("template", "read"),
    [
        (epo_jax.Template(bos="never"), "last"),
        pytest.param(epo_jax.Template("The fox", " dog", "always"), "max", marks=pytest.mark.slow),
    ],
)
def test_texts_of_all_lengths_and_features_get_what_each_gets_alone(tiny, template, read) -> None:
    encode = tiny.tokenizer.encode
    texts = [encode(text) for text in TEXTS for _ in range(2)]
    assert len(texts[0]) < STEP < len(texts[2])
    names = ["L1.N7", "logit:A", "L2.N3", "L0.N2"]
    found = score_texts(tiny, [epo_jax.parse_feature(n, tiny) for n in names], texts, template, read=read)
    before = [0, *encode(template.prefix)] if template.prefix else []
    for one, name, text in zip(found, names, texts, strict=True):
        whole = [*before, *text, *encode(template.suffix)]
        assert one.ids.tolist() == whole
        assert (one.first, one.stop) == (len(before), len(before) + len(text))
        alone = scored(tiny, name, whole, template, read)
        assert one.feature == pytest.approx(float(alone.feature[0]), abs=1e-5)
        assert one.cross_entropy == pytest.approx(float(alone.cross_entropy[0]), abs=1e-5)
        counted = one.surprisal[max(one.first, 1) : one.stop]
        assert one.cross_entropy == pytest.approx(float(counted.mean()), abs=1e-5)
        assert np.flatnonzero(np.isnan(one.surprisal)).tolist() == [0]
        for position in (0, len(whole) // 2, len(whole) - 1):
            there = scored(tiny, name, whole, epo_jax.Template(bos="never"), position)
            assert one.at_tokens is not None
            assert one.at_tokens[position] == pytest.approx(float(there.feature[0]), abs=1e-5)


def test_a_feature_that_is_not_read_at_one_token_has_no_value_at_each(tiny) -> None:
    feature = epo_jax.parse_feature("continuation:he", tiny)
    (found,) = score_texts(tiny, [feature], [tiny.tokenizer.encode(TEXTS[0])], epo_jax.Template(bos="never"))
    assert found.at_tokens is None
    assert math.isfinite(found.feature)
