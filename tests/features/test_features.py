"""The protocol, over every kind of feature."""

from __future__ import annotations

import dataclasses

import feature_runs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_kinds import KINDS, Place, alone, variants
from feature_runs import LENGTH, PENALTIES, PREFIX, Run
from torch_features import relative, scores_and_gradients

import epo_jax
from epo_jax import EpoError, Feature
from epo_jax.features import parse
from epo_jax.features.base import EVERY, OUTSIDE, READ, TARGET
from epo_jax.models.decoder import SITES
from epo_jax.scoring.packing import Blocks

EACH = pytest.mark.parametrize("kind", KINDS)
START, STOP = len(PREFIX), len(PREFIX) + LENGTH


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory):
    return Place(tiny, tmp_path_factory.mktemp("features"), (1, 2))


@pytest.fixture(scope="module")
def examples(place):
    return {kind: make(place) for kind, make in KINDS.items()}


@pytest.fixture(scope="module")
def runs(tiny, examples):
    """The function that runs a kind's examples together, once."""
    done: dict[str, Run] = {}

    def run(kind):
        if kind not in done:
            done[kind] = feature_runs.run(tiny, [example.text for example in examples[kind]])
        return done[kind]

    return run


@pytest.fixture(scope="module")
def eager(tiny_torch):
    """The model in PyTorch, which hands its attention patterns out."""
    yield from _eager(tiny_torch)


@pytest.fixture(scope="module")
def eager_lm(torch_lm):
    yield from _eager(torch_lm)


def _eager(model):
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    yield model
    model.set_attn_implementation(usual)


def test_every_kind_is_tested():
    modules = {module.__name__.rpartition(".")[2] for module in (*parse.KINDS, *parse.MADE_OF_OTHERS)}
    assert modules == set(KINDS)


@EACH
def test_a_feature_reads_known_sites_and_keeps_its_string(tiny, examples, kind):
    for example in examples[kind]:
        feature = epo_jax.parse_feature(example.text, tiny)
        assert isinstance(feature, Feature)
        assert feature.name == example.text
        assert set(feature.sites) <= {*SITES, *OUTSIDE}
        assert set(feature.reads) <= {READ, TARGET, EVERY}
        assert feature.depth.shape == ()
        assert jax.tree.leaves(feature)


@EACH
def test_features_of_a_kind_share_one_program(tiny, examples, runs, kind):
    texts = [example.text for example in examples[kind]]
    found = runs(kind)
    compiled = feature_runs.programs()
    again = feature_runs.run(tiny, texts[::-1])
    assert feature_runs.programs() == compiled
    if len(texts) > 1:
        # Every second prompt is about the other feature now.
        assert np.abs(np.asarray(again.prompts.feature) - found.prompts.feature).min() > 1e-4


@EACH
def test_candidates_score_as_when_run_whole(runs, kind):
    assert_same_scores(runs(kind))


def assert_same_scores(run):
    np.testing.assert_allclose(run.suffix_only.cross_entropy, run.whole.cross_entropy, rtol=0, atol=1e-4)
    np.testing.assert_allclose(run.suffix_only.feature, run.whole.feature, rtol=1e-4, atol=1e-5)
    assert np.ptp(run.whole.feature) > 0.05


@EACH
def test_values_and_gradients_equal_autograd(tiny, eager, examples, runs, kind):
    assert_equals_autograd(tiny, eager, examples[kind], runs(kind))


def assert_equals_autograd(lm, model, examples, run):
    """Each prompt's feature is its own: a stack of features is a batch."""
    for number, example in enumerate(examples):
        mine = run.dream == number
        target = epo_jax.parse_feature(example.text, lm).target.tolist()
        value, cross_entropy, gradients = scores_and_gradients(
            model, example.meaning, run.ids[mine], target, np.asarray(PENALTIES)[mine], START, STOP
        )
        np.testing.assert_allclose(run.prompts.feature[mine], value, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(run.prompts.cross_entropy[mine], cross_entropy, rtol=1e-4)
        assert relative(run.gradients[mine], gradients).max() < 1e-4


@pytest.mark.slow
def test_all_forms_of_all_kinds_equal_autograd_and_score_as_when_run_whole(tiny, eager, place):
    many = variants(place)
    chosen = [alone(many, number) for number in range(len(many))]
    for example in chosen:
        compiled = feature_runs.programs()
        run = feature_runs.run(tiny, [example.text])
        assert_same_scores(run)
        assert_equals_autograd(tiny, eager, [example], run)
    assert feature_runs.programs() == compiled


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuation", "callable"])
def test_candidates_in_one_block_score_as_when_run_whole(tiny, examples, kind):
    texts = [example.text for example in examples[kind]]
    assert_same_scores(feature_runs.run(tiny, texts, blocks=Blocks(1024, ())))


@pytest.mark.parametrize("kind", ["attention", "sum"])
@pytest.mark.slow
def test_candidates_score_as_when_run_whole_where_the_maximum_is_read(tiny, examples, runs, kind):
    found = feature_runs.run(tiny, [example.text for example in examples[kind]], read="max")
    assert_same_scores(found)
    assert np.abs(np.asarray(found.whole.feature) - runs(kind).whole.feature).max() > 0.05


@pytest.mark.slow
def test_values_and_gradients_of_the_embedded_model_equal_autograd(lm, eager_lm, tmp_path):
    place = Place(lm, tmp_path, (3, 20))
    every = [make(place)[-1] for make in KINDS.values()]
    template = epo_jax.Template(prefix="The cat", suffix=" ran", bos="always")
    tokens = lm.tokenizer.encode("The cat saw 3 dogs here ran", add_special_tokens=False)
    ids = np.asarray([[lm.tokenizer.bos_token_id, *tokens]], np.int32)
    for number in range(len(every)):
        example = alone(every, number)
        feature = epo_jax.parse_feature(example.text, lm)
        value, _, gradients = scores_and_gradients(
            eager_lm, example.meaning, ids, feature.target.tolist(), np.asarray([0.1]), 3, ids.shape[1] - 1
        )
        np.testing.assert_allclose(epo_jax.score(lm, feature, ids, template).feature, value, rtol=1e-4)
        found = epo_jax.token_gradients(lm, feature, ids, 0.1, template)
        assert relative(found, gradients).max() < 1e-4


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
    with pytest.raises(EpoError, match=r"L10\.N5, logit: dog, .*package\.module:function, sum:.*, -L10\.N5"):
        epo_jax.parse_feature(text, tiny)


def test_a_token_that_the_tokenizer_has_and_the_model_has_not_is_refused(tmp_path, save_llama):
    save_llama(tmp_path, vocab_size=200)
    small = epo_jax.load_model(str(tmp_path), dtype="float32")
    beyond = small.tokenizer.decode([270])
    with pytest.raises(EpoError, match="outside the model's vocabulary 0 to 199"):
        epo_jax.parse_feature(f"logit:{beyond}", small)
