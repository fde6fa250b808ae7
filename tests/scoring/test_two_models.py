"""A feature of one model, the fluency of another."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epo_jax
from epo_jax.epo import Candidates
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.scoring import build
from epo_jax.scoring.two_models import shared_tokens

SMALL = epo_jax.EPOConfig(iterations=3, population=3, children=6, length=6, top_k=16, restart_every=2)
FEATURES = ("L1.N3", "logit:e")


@pytest.fixture(scope="module")
def other(tmp_path_factory, save_neox):
    """Another family, another size, the same tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    save_neox(folder, seed=5)
    return epo_jax.load_model(str(folder), dtype="float32")


@pytest.fixture
def ids():
    return np.random.default_rng(0).integers(1, 290, (5, 6))


@pytest.mark.parametrize("name", FEATURES)
def test_each_number_is_that_of_its_own_model(tiny, other, ids, name):
    feature = epo_jax.parse_feature(name, tiny)
    found = epo_jax.score(tiny, feature, ids, fluency_model=other)
    np.testing.assert_allclose(found.feature, epo_jax.score(tiny, feature, ids).feature, rtol=1e-5, atol=1e-6)
    expected = epo_jax.score(other, epo_jax.parse_feature("L0.N0", other), ids).cross_entropy
    np.testing.assert_allclose(found.cross_entropy, expected, rtol=1e-5)
    assert np.abs(found.cross_entropy - epo_jax.score(tiny, feature, ids).cross_entropy).max() > 0.01


@pytest.mark.parametrize("name", FEATURES)
def test_the_gradient_is_the_sum_of_both(tiny, other, ids, name):
    feature = epo_jax.parse_feature(name, tiny)
    nothing = dataclasses.replace(epo_jax.parse_feature("L0.N0", other), layer=jnp.int32(99))
    expected = epo_jax.token_gradients(tiny, feature, ids, 0.0) + epo_jax.token_gradients(other, nothing, ids, 0.7)
    found = epo_jax.token_gradients(tiny, feature, ids, 0.7, fluency_model=other)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FEATURES)
def test_candidates_score_as_when_run_whole(tiny, other, name):
    template = epo_jax.Template(prefix="ab", suffix="c")
    algorithm = build(tiny, epo_jax.parse_feature(name, tiny), SMALL, template, fluency_model=other)
    state = algorithm.init(jax.random.key(0, impl="threefry2x32"))
    for _ in range(2):
        state, info = algorithm.step(state)
    nobody = jnp.zeros(len(info.ids), jnp.int32)
    candidates = Candidates(info.ids, nobody, nobody)
    whole = jax.jit(algorithm.scorer.evaluate)(None, candidates, nobody, jnp.full_like(nobody, SMALL.length))
    np.testing.assert_allclose(info.feature, whole.feature, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(info.cross_entropy, whole.cross_entropy, atol=1e-4)


def test_tokens_that_one_of_the_models_lacks_are_not_used(tiny, tmp_path, save_llama):
    save_llama(tmp_path, vocab_size=200)
    small = epo_jax.load_model(str(tmp_path), dtype="float32")
    for lm, fluency in ((tiny, small), (small, tiny)):
        algorithm = build(lm, epo_jax.parse_feature("L1.N3", lm), SMALL, fluency_model=fluency)
        own = allowed_tokens(lm.tokenizer, lm.config.vocab_size)
        expected = own & (np.arange(len(own)) < 200)
        np.testing.assert_array_equal(algorithm.allowed, expected)
        algorithm.step(algorithm.init(jax.random.key(0, impl="threefry2x32")))


def test_models_whose_tokens_differ_are_refused_with_the_reason(tiny, lm):
    with pytest.raises(
        epo_jax.EpoError, match=r"--fluency_model=smollm2-135m: its tokenizer is another one: id \d+ is"
    ):
        shared_tokens(tiny, lm)


def test_a_model_too_short_for_the_prompt_is_refused(tiny, tmp_path, save_llama):
    save_llama(tmp_path, max_position_embeddings=4)
    short = epo_jax.load_model(str(tmp_path), dtype="float32")
    with pytest.raises(epo_jax.EpoError, match="takes 4"):
        build(tiny, epo_jax.parse_feature("L1.N3", tiny), SMALL, fluency_model=short)
