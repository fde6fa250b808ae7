"""The filter of scored prompts: it never forgets one, and seldom takes a new one for known."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epo_jax.epo.archive import MOST_PLACES, PLACES_PER_PROMPT, hashes, known, places_for, remember

SEEDS = st.integers(0, 2**32 - 1)


def neighbours(seed: int, count: int, length: int = 12, vocabulary: int = 50_000) -> np.ndarray:
    """Different prompts that differ from one another in at most two tokens, as those of a search do."""
    rng = np.random.default_rng(seed)
    prompts = np.tile(rng.integers(0, vocabulary, length), (2 * count, 1)).astype(np.int32)
    for _ in range(2):
        prompts[np.arange(2 * count), rng.integers(0, length, 2 * count)] = rng.integers(0, vocabulary, 2 * count)
    different = np.unique(prompts, axis=0)
    return rng.permutation(different)[:count]


def filter_of(prompts: np.ndarray, used: np.ndarray | None = None, places: int | None = None):
    used = np.ones(len(prompts), bool) if used is None else used
    empty = jnp.zeros(places or places_for(len(prompts)), bool)
    return remember(empty, jnp.asarray(prompts), jnp.asarray(used))


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from([64, 512]))
def test_what_was_remembered_is_known_for_ever(seed, places):
    prompts = neighbours(seed, 160)
    # Ever more of them, so that the filter is far too full in the end.
    filled = jnp.zeros(places, bool)
    for start in range(0, 160, 40):
        part = jnp.asarray(prompts[start : start + 40])
        filled = remember(filled, part, jnp.ones(40, bool))
        assert known(filled, jnp.asarray(prompts[: start + 40])).all()


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_a_full_filter_takes_few_new_prompts_for_known(seed):
    prompts = neighbours(seed, 2048 + 6000)
    filled = filter_of(prompts[:2048])
    assert len(filled) == PLACES_PER_PROMPT * 2048
    share = float(known(filled, jnp.asarray(prompts[2048:])).mean())
    # 4.9% are expected, give or take 0.3.
    assert share < 0.062
    half = filter_of(prompts[:1024], places=len(filled))
    assert float(known(half, jnp.asarray(prompts[2048:])).mean()) < 0.5 * 0.062


def test_prompts_that_are_not_used_leave_no_trace():
    prompts = neighbours(3, 40)
    used = np.arange(40) % 3 == 0
    filled = filter_of(prompts, used, places=4096)
    np.testing.assert_array_equal(filled, filter_of(prompts[used], places=4096))
    assert not filter_of(prompts, np.zeros(40, bool)).any()
    # In the places of children that were not scored.
    missing = np.full((4, 12), -1, np.int32)
    assert not filter_of(missing, np.zeros(4, bool)).any()


def test_hashes_tell_apart_what_one_token_or_its_place_tells_apart():
    prompts = neighbours(5, 3000)
    swapped = prompts[:, ::-1]
    both = np.asarray(hashes(jnp.asarray(np.concatenate([prompts, swapped]))))
    assert len(np.unique(both, axis=0)) == len(np.unique(np.concatenate([prompts, swapped]), axis=0))
    # Neither says anything of the other: their low bits agree by chance alone.
    assert abs(((both[:, 0] ^ both[:, 1]) & 1).mean() - 0.5) < 0.05


@pytest.mark.parametrize("length", [1, 2, 12])
def test_hashes_fill_all_places_evenly(length):
    ids = jnp.arange(16_000, dtype=jnp.int32)[:, None] + jnp.zeros(length, jnp.int32)
    counts = np.bincount(np.asarray(hashes(ids) % jnp.uint32(64)).reshape(-1), minlength=64)
    # Chi-square with 63 degrees of freedom: above 120 in one of 50,000 draws.
    assert ((counts - 500) ** 2 / 500).sum() < 120


@pytest.mark.parametrize("prompts", [1, 8, 9, 1000, 76_808, 10**9])
def test_places_are_a_power_of_two_and_enough_up_to_a_limit(prompts):
    places = places_for(prompts)
    assert places.bit_count() == 1
    assert places >= min(PLACES_PER_PROMPT * prompts, MOST_PLACES)
    assert 64 <= places <= max(64, min(2 * PLACES_PER_PROMPT * prompts, MOST_PLACES))
