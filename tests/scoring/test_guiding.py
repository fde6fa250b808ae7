"""What a guided search is told of its parents: rows without a gradient, and the log-probability of every token."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epo_jax
from epo_jax.epo.scorer import GuidingScorer
from epo_jax.scoring.assemble import scorer_for, stack_features
from epo_jax.scoring.scorer import LanguageModelScorer
from epo_jax.scoring.template import FrozenTokens

COUNT, LENGTH = 5, 6
FROZEN = {
    "nothing": ([], []),
    "a BOS": ([0], []),
    "a prefix": ([5, 9, 200], []),
    "a suffix": ([], [7, 33]),
    "a BOS, prefix and suffix": ([0, 5, 9], [7, 33, 120]),
}
every_frozen = pytest.mark.parametrize("frozen", list(FROZEN))


@pytest.fixture(scope="module")
def other(tmp_path_factory, save_neox):
    """Another family, another size, the same tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    save_neox(folder, seed=5)
    return epo_jax.load_model(str(folder), dtype="float32")


@pytest.fixture
def ids():
    return jnp.asarray(np.random.default_rng(0).integers(0, 307, (COUNT, LENGTH)), jnp.int32)


def scorer_of(lm, names: list[str], frozen: str, fluency_model=None):
    tokens = FrozenTokens(*(np.asarray(part, np.int32) for part in FROZEN[frozen]))
    features = stack_features([epo_jax.parse_feature(name, lm) for name in names])
    return scorer_for(lm, features, tokens, "last", LENGTH, fluency_model=fluency_model)


def expected_log_probs(lm, frozen: str, ids) -> np.ndarray:
    """By the model's logits of whole sequences; 0 for a first token that nothing stands before."""
    prefix, suffix = FROZEN[frozen]
    around = [np.tile(np.asarray(part, np.int32), (COUNT, 1)) for part in (prefix, suffix)]
    logits = epo_jax.logits(lm, np.concatenate([around[0], np.asarray(ids), around[1]], axis=1))
    found = np.asarray(jax.nn.log_softmax(logits))[:, len(prefix) : len(prefix) + LENGTH]
    before = np.asarray(jax.nn.log_softmax(logits))[:, max(len(prefix) - 1, 0) : len(prefix) + LENGTH - 1]
    return before if prefix else np.concatenate([np.zeros_like(found[:, :1]), before], axis=1)


@every_frozen
@pytest.mark.parametrize("names", [["L1.N5", "L2.N7"], ["logit:e"], ["attention:L1.H0:1"]], ids=lambda one: one[0])
def test_rows_of_parents_are_those_that_gradients_leave(tiny, ids, frozen, names):
    scorer = scorer_of(tiny, names, frozen)
    dream = jnp.arange(COUNT, dtype=jnp.int32) % len(names)
    _, left = jax.jit(LanguageModelScorer.gradients)(scorer, ids, jnp.linspace(0, 3, COUNT), dream)
    alone = jax.jit(LanguageModelScorer.parents)(scorer, ids, dream)
    assert jax.tree.structure(left) == jax.tree.structure(alone)
    for expected, found in zip(jax.tree.leaves(left), jax.tree.leaves(alone), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@every_frozen
def test_log_probabilities_are_those_of_the_models_logits(tiny, ids, frozen):
    scorer = scorer_of(tiny, ["L1.N5"], frozen)
    assert isinstance(scorer, GuidingScorer)
    dream = jnp.zeros(COUNT, jnp.int32)
    found = jax.jit(lambda one: one.log_probs(one.parents(ids, dream)))(scorer)
    assert scorer.first_scored == (0 if FROZEN[frozen][0] else 1)
    assert (found.shape, found.dtype) == ((COUNT, LENGTH, tiny.config.vocab_size), jnp.float32)
    np.testing.assert_allclose(found, expected_log_probs(tiny, frozen, ids), rtol=1e-4, atol=1e-4)


@every_frozen
def test_the_cross_entropy_is_the_mean_of_the_tokens_own_log_probabilities(tiny, ids, frozen):
    scorer = scorer_of(tiny, ["L1.N5"], frozen)
    dream, first = jnp.zeros(COUNT, jnp.int32), scorer.first_scored
    log_probs = np.asarray(scorer.log_probs(scorer.parents(ids, dream)))
    own = np.take_along_axis(log_probs, np.asarray(ids)[..., None], axis=2)[:, first:, 0]
    whole = scorer.whole(ids, dream, jnp.full(COUNT, LENGTH, jnp.int32))
    np.testing.assert_allclose(whole.cross_entropy, -own.mean(axis=1), rtol=1e-4)


@pytest.mark.parametrize("frozen", ["nothing", "a BOS, prefix and suffix"])
def test_of_two_models_fluencys_tells_the_log_probabilities_and_both_leave_rows(tiny, other, ids, frozen):
    scorer = scorer_of(tiny, ["L1.N5", "L2.N7"], frozen, other)
    assert isinstance(scorer, GuidingScorer)
    dream = jnp.arange(COUNT, dtype=jnp.int32) % 2
    _, left = scorer.gradients(ids, jnp.linspace(0, 3, COUNT), dream)
    alone = scorer.parents(ids, dream)
    for expected, found in zip(jax.tree.leaves(left), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert scorer.first_scored == (0 if FROZEN[frozen][0] else 1)
    expected = expected_log_probs(other, frozen, ids)
    np.testing.assert_allclose(scorer.log_probs(alone)[..., :307], expected, rtol=1e-4, atol=1e-4)


def test_where_vocabularies_differ_log_probabilities_are_as_wide_as_the_searchs(tiny, tmp_path, save_llama):
    save_llama(tmp_path, vocab_size=200)
    small = epo_jax.load_model(str(tmp_path), dtype="float32")
    ids = jnp.asarray(np.random.default_rng(1).integers(0, 200, (COUNT, LENGTH)), jnp.int32)
    dream = jnp.zeros(COUNT, jnp.int32)
    for lm, fluency in ((tiny, small), (small, tiny)):
        scorer = scorer_of(lm, ["L1.N3"], "a BOS", fluency)
        found = np.asarray(scorer.log_probs(scorer.parents(ids, dream)))
        assert found.shape[2] >= lm.config.vocab_size
        own = expected_log_probs(fluency, "a BOS", ids)[..., :200]
        np.testing.assert_allclose(found[..., :200], own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_tells_log_probabilities_in_full(tiny_folder, ids, dtype):
    half = epo_jax.load_model(tiny_folder, dtype=dtype)
    scorer = scorer_of(half, ["L1.N5"], "a BOS")
    found = scorer.log_probs(scorer.parents(ids, jnp.zeros(COUNT, jnp.int32)))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected_log_probs(half, "a BOS", ids), atol=0.15)


@pytest.mark.parametrize("operators", ["model_swap,insertion", "gradient_swap,pair_swap"])
def test_children_of_guided_searches_score_as_when_run_whole(tiny, operators):
    config = epo_jax.EPOConfig(5, 3, 8, LENGTH, search="best", operators=operators)
    config = dataclasses.replace(config, top_k=40)
    template = epo_jax.Template(prefix="ab", suffix="c")
    algorithm = epo_jax.build(tiny, epo_jax.parse_feature("L1.N5", tiny), config, template)
    state = algorithm.init(jax.random.key(0, impl="threefry2x32"))
    for _ in range(3):
        state, info = algorithm.step(state)
    scored = np.asarray(info.scored)
    nobody = jnp.zeros(len(scored), jnp.int32)
    whole = jax.jit(LanguageModelScorer.whole)(algorithm.scorer, info.ids, nobody, jnp.full_like(nobody, LENGTH))
    np.testing.assert_allclose(info.feature[scored], whole.feature[scored], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(info.cross_entropy[scored], whole.cross_entropy[scored], atol=1e-4)
