"""Scales: what one unit of a feature is."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

import epo_jax
from epo_jax.epo.mutate import random_prompts
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.scoring import build, scale
from epo_jax.scoring.assemble import placed_features, scorer_for
from epo_jax.scoring.template import NOTHING

SMALL = epo_jax.EPOConfig(iterations=3, population=3, children=4, length=5, top_k=16, restart_every=2)


def features(lm, *names):
    return [epo_jax.parse_feature(name, lm) for name in names]


def test_a_random_scale_is_mean_and_deviation_over_random_prompts_of_each_feature(tiny):
    names = ("L0.N1", "L2.N7")
    scorer = scorer_for(tiny, placed_features(features(tiny, *names), 5), NOTHING, "last", 5)
    allowed = allowed_tokens(tiny.tokenizer, tiny.config.vocab_size)
    found = scale.scales_of(scorer, "random", names, allowed, 5)
    prompts = random_prompts(jax.random.key(0, impl="threefry2x32"), jax.numpy.asarray(allowed), scale.PROMPTS, 5)
    for one, feature in zip(found, features(tiny, *names), strict=True):
        values = np.asarray(epo_jax.score(tiny, feature, prompts).feature)
        np.testing.assert_allclose((one.offset, one.unit), (values.mean(), values.std()), rtol=1e-4)
        scaled = one.of(values)
        np.testing.assert_allclose((scaled.mean(), scaled.std()), (0, 1), atol=1e-4)


def test_a_unit_means_what_penalties_divided_by_it_mean(tiny):
    (feature,) = features(tiny, "L1.N3")
    scaled = build(tiny, feature, SMALL, scale=4.0)
    plain = build(
        tiny,
        feature,
        dataclasses.replace(
            SMALL,
            **{
                name: getattr(SMALL, name) * 4.0
                for name in ("lambda_min", "lambda_max", "restart_lambda_min", "restart_lambda_max")
            },
        ),
    )
    key = jax.random.key(3, impl="threefry2x32")
    states = [algorithm.init(key) for algorithm in (scaled, plain)]
    for _ in range(4):
        states = [algorithm.step(state)[0] for algorithm, state in zip((scaled, plain), states, strict=True)]
    np.testing.assert_array_equal(states[0].ids, states[1].ids)
    # Scores are the feature's own values.
    np.testing.assert_allclose(states[0].feature, epo_jax.score(tiny, feature, states[0].ids).feature, atol=1e-5)
    unscaled = build(tiny, feature, SMALL)
    assert not np.array_equal(unscaled.step(unscaled.init(key))[0].ids, scaled.step(scaled.init(key))[0].ids)


def test_each_dream_has_a_scale_of_its_own_and_scales_are_traced(tiny):
    both = features(tiny, "L1.N3", "L2.N7")
    algorithm = build(tiny, both, SMALL, scale=[scale.Scale(0.5, 4.0), scale.Scale(0.0, 0.1)])
    np.testing.assert_allclose(algorithm.scale, (4.0, 0.1))
    key = jax.random.key(3, impl="threefry2x32")
    together = algorithm.step(algorithm.init(jax.numpy.stack([key, key])))[0]
    for number, (feature, unit) in enumerate(zip(both, (4.0, 0.1), strict=True)):
        alone = build(tiny, feature, SMALL, scale=unit)
        np.testing.assert_array_equal(together.ids[number], alone.step(alone.init(key))[0].ids)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("z", "--scale=z: not none, random or a number"),
        ("-1", "finite number above 0"),
        (0.0, "finite number above 0"),
        (float("inf"), "finite number above 0"),
    ],
)
def test_a_scale_that_is_none_is_refused(tiny, given, said):
    with pytest.raises(epo_jax.EpoError, match=said):
        build(tiny, features(tiny, "L1.N3")[0], SMALL, scale=given)


def test_a_feature_that_never_varies_has_no_random_scale(tiny):
    feature = dataclasses.replace(features(tiny, "L1.N3")[0], layer=jax.numpy.int32(99))
    with pytest.raises(
        epo_jax.EpoError, match=r"--scale=random: the values of L1\.N3 .* deviation 0, which is no unit"
    ):
        build(tiny, feature, SMALL, scale="random")
