"""The protocol, over every kind of feature."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epo_jax
from epo_jax import EpoError, Feature
from epo_jax.epo import Candidates
from epo_jax.features.base import LOGITS
from epo_jax.models.decoder import SITES
from epo_jax.scoring import api

KINDS = {"neuron": ("L1.N5", "L2.N52"), "logit": ("logit:e", "logit:$")}
EACH = pytest.mark.parametrize(("first", "second"), KINDS.values(), ids=KINDS.keys())


@EACH
def test_a_feature_reads_known_sites_and_keeps_its_string(tiny, first, second):
    for text in (first, second):
        feature = epo_jax.parse_feature(text, tiny)
        assert isinstance(feature, Feature)
        assert feature.name == text
        assert set(feature.sites) <= {*SITES, LOGITS}


@EACH
def test_features_of_a_kind_differ_in_traced_numbers_alone(tiny, first, second):
    one, other = (epo_jax.parse_feature(text, tiny) for text in (first, second))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert jax.tree.leaves(one) != jax.tree.leaves(other)
    ids = [[5, 6, 7, 8]]
    epo_jax.score(tiny, one, ids)
    compiled = api._score._cache_size()
    epo_jax.score(tiny, other, ids)
    assert api._score._cache_size() == compiled


@EACH
def test_a_stack_of_features_is_a_batch(tiny, first, second):
    features = [epo_jax.parse_feature(text, tiny) for text in (first, second)]
    ids = jnp.asarray([[5, 6, 7, 8]] * 4, jnp.int32)
    scorer = api.scorer_for(tiny, api.stack_features(features), api.NOTHING, "last", 4)
    dream, nobody = jnp.asarray([0, 1, 1, 0], jnp.int32), jnp.zeros(4, jnp.int32)
    together = scorer.evaluate(None, Candidates(ids, nobody, dream), nobody, jnp.full(4, 4, jnp.int32)).feature
    alone = [epo_jax.score(tiny, features[number], ids[:1]).feature[0] for number in (0, 1, 1, 0)]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_a_logit_difference_is_the_logit_above_the_largest_other_one(tiny):
    ids = np.random.default_rng(0).integers(1, 290, (64, 6))
    logits = np.asarray(epo_jax.logits(tiny, ids))[:, -1]
    feature = epo_jax.parse_feature("logit:e", tiny)
    # Also tokens that are the largest themselves: then the value is positive.
    for index in (int(feature.token), *logits[:8].argmax(axis=1).tolist()):
        expected = logits[:, index] - np.delete(logits, index, axis=1).max(axis=1)
        value = epo_jax.score(tiny, dataclasses.replace(feature, token=jnp.int32(index)), ids).feature
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    assert (value > 0).any()


def test_the_text_of_a_logit_is_verbatim(lm):
    with_space, without = (epo_jax.parse_feature(text, lm) for text in ("logit: dog", "logit:dog"))
    assert lm.tokenizer.decode([int(with_space.token)]) == " dog"
    assert lm.tokenizer.decode([int(without.token)]) == "dog"


@pytest.mark.parametrize("text", ["", "L1N5", "l1.n5", "L1.N5 ", "L-1.N5", "logits: a", "N5"])
def test_a_string_of_no_known_form_is_refused_with_the_forms(tiny, text):
    with pytest.raises(EpoError, match=r"L10\.N5, logit: dog"):
        epo_jax.parse_feature(text, tiny)


def test_a_token_that_the_tokenizer_has_and_the_model_has_not_is_refused(tmp_path, save_llama):
    save_llama(tmp_path, vocab_size=200)
    small = epo_jax.load_model(str(tmp_path), dtype="float32")
    beyond = small.tokenizer.decode([270])
    with pytest.raises(EpoError, match="outside the model's vocabulary 0 to 199"):
        epo_jax.parse_feature(f"logit:{beyond}", small)
