"""Samples of a model, against the probabilities that the model gives to whole sequences."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

import epo_jax
from epo_jax import EpoError
from epo_jax.models import sampling
from epo_jax.models.sampling import sample
from epo_jax.models.tokenizers import allowed_tokens

FEW = [3, 40, 77, 120, 290]
LENGTH = 4


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed, impl="threefry2x32")


def few_of(lm: epo_jax.LanguageModel) -> np.ndarray:
    """A mask of five tokens."""
    allowed = np.zeros(lm.config.vocab_size, np.bool_)
    allowed[FEW] = True
    return allowed


def log_probabilities(lm: epo_jax.LanguageModel, prefix: list[int], temperature: float) -> np.ndarray:
    """Of all sequences of the few tokens after the prefix, by whole runs of the model: float64[5, ...]."""
    every = np.asarray(list(itertools.product(FEW, repeat=LENGTH)), np.int32)
    whole = np.concatenate([np.tile(np.asarray(prefix, np.int32), (len(every), 1)), every], axis=1)
    logits = np.asarray(epo_jax.logits(lm, whole), np.float64)[..., FEW] / temperature
    log = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    chosen = np.searchsorted(FEW, every)
    total = np.zeros(len(every))
    for place in range(LENGTH):
        row = len(prefix) + place - 1
        total += -np.log(len(FEW)) if row < 0 else log[np.arange(len(every)), row, chosen[:, place]]
    return total


# Rotary positions, learned ones, and windows of five tokens.
@pytest.mark.parametrize(
    ("family", "prefix", "temperature"),
    [
        ("llama", [], 2.0),
        ("llama", [0, 5, 17, 90, 33, 8], 1.0),
        ("gpt2", [0, 5, 17, 90, 33, 8], 1.0),
        ("gemma3", [0, 5, 17, 90, 33, 8], 1.0),
    ],
)
def test_samples_are_as_frequent_as_the_model_finds_them_likely(save_model, tmp_path, family, prefix, temperature):
    save_model(tmp_path, family)
    model = epo_jax.load_model(str(tmp_path), dtype="float32")
    count = 6_000
    drawn = sample(model, prefix, key(), count, LENGTH, temperature, few_of(model))
    numbers = np.ravel_multi_index(tuple(np.searchsorted(FEW, drawn).T), (len(FEW),) * LENGTH)
    observed = np.bincount(numbers, minlength=len(FEW) ** LENGTH)
    expected = count * np.exp(log_probabilities(model, prefix, temperature))
    np.testing.assert_allclose(expected.sum(), count, rtol=1e-4)
    # Rare sequences are counted together, so that each cell has an expectation that chi-square can be used with.
    common = expected >= 5
    observed, expected = (np.append(a[common], a[~common].sum()) for a in (observed, expected))
    statistic, freedom = ((observed - expected) ** 2 / np.maximum(expected, 1)).sum(), len(expected) - 1
    assert freedom > 50
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


def test_samples_depend_on_the_key_and_their_number_alone_and_hold_allowed_tokens(tiny):
    first = sample(tiny, [4, 5], key(1), 6, 5)
    assert (first.shape, first.dtype) == ((6, 5), np.int32)
    np.testing.assert_array_equal(sample(tiny, [4, 5], key(1), 6, 5), first)
    np.testing.assert_array_equal(sample(tiny, [4, 5], key(1), 9, 5)[:6], first)
    assert not np.array_equal(sample(tiny, [4, 5], key(2), 6, 5), first)
    assert len(np.unique(first, axis=0)) == 6
    many = sample(tiny, [], key(1), 400, 3)
    assert allowed_tokens(tiny.tokenizer, tiny.config.vocab_size)[many].all()
    only = few_of(tiny)
    only[FEW[1:]] = False
    assert (sample(tiny, [4], key(1), 3, 4, allowed=only) == FEW[0]).all()


def test_a_low_temperature_gives_the_likeliest_tokens(tiny):
    [found] = sample(tiny, [4, 5], key(), 1, 6, 1e-4, np.ones(tiny.config.vocab_size, np.bool_))
    whole = np.concatenate([[4, 5], found])[None]
    np.testing.assert_array_equal(np.asarray(epo_jax.logits(tiny, whole))[0, 1:-1].argmax(axis=-1), found)


def test_a_sample_of_one_token_follows_its_prefix(tiny):
    drawn = sample(tiny, [4, 5], key(), 1, 1, 1e-4, few_of(tiny))
    assert drawn.tolist() == [[FEW[np.asarray(epo_jax.logits(tiny, [[4, 5]]))[0, -1, FEW].argmax()]]]


def test_keys_prefixes_temperatures_and_masks_share_one_compilation(tiny):
    sample(tiny, [7, 8], key(), 3, 4)
    compiled = sampling._sample._cache_size()
    sample(tiny, np.asarray([1, 2]), key(9), 3, 4, 0.5, few_of(tiny))
    sample(tiny, [300, 3], key(10), 3, 4, 2.0)
    assert sampling._sample._cache_size() == compiled


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prefix_ids": [307]}, "prefix_ids: .* 0 to 306"),
        ({"prefix_ids": [-1]}, "prefix_ids: .* 0 to 306"),
        ({"prefix_ids": [0.5]}, "prefix_ids: .*whole numbers"),
        ({"count": 0}, "sample: 0 samples"),
        ({"length": 0}, "sample: 2 samples of 0 tokens"),
        ({"length": 64}, "sample: 1 tokens of a prefix and 64 .* 64 that the model takes"),
        ({"temperature": 0.0}, "temperature: is 0.0"),
        ({"temperature": float("nan")}, "temperature: is nan"),
        ({"allowed": np.zeros(307, np.bool_)}, "allowed: .*a token to draw"),
        ({"allowed": np.ones(300, np.bool_)}, r"allowed: must be bool\[307\]"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(tiny, changes, said):
    with pytest.raises(EpoError, match=said):
        sample(tiny, **{"prefix_ids": [1], "key": key(), "count": 2, "length": 3, **changes})
