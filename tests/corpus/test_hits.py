"""Running hits and histograms against sorting everything."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from epo_jax.corpus.hits import BINS, absorb, bin_edges, bin_of, merged, no_hits, percentiles

_NUMBERS = st.floats(-5000, 5000, width=32)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), levels=st.integers(1, 40), devices=st.integers(1, 3))
def test_hits_are_the_first_of_all_windows_sorted_by_strength(seed, levels, devices):
    rng = np.random.default_rng(seed)
    # Few levels, so that many are equal.
    values = rng.integers(-levels, levels + 1, (6, devices, 2, 5, 3)).astype(np.float32)
    counts = rng.random((6, devices, 2, 5)) < 0.7
    hits = [no_hits((3,), 4) for _ in range(devices)]
    for step in range(6):
        for device in range(devices):
            first = (step * devices + device) * 2
            windows = jnp.arange(first, first + 2, dtype=jnp.int32)
            hits[device] = absorb(
                hits[device], jnp.asarray(values[step, device]), jnp.asarray(counts[step, device]), windows
            )
    found = merged(jax.tree.map(lambda *leaves: jnp.stack(leaves), *hits))
    flat, mask = values.reshape(-1, 5, 3), counts.reshape(-1, 5)
    for feature in range(3):
        best = np.where(mask, flat[..., feature], -np.inf)
        order = np.argsort(-best.max(axis=1), kind="stable")[:4]
        strength = best.max(axis=1)[order]
        np.testing.assert_array_equal(found.activation[feature], strength)
        np.testing.assert_array_equal(found.window[feature], np.where(np.isfinite(strength), order, -1))
        there = np.isfinite(strength)
        np.testing.assert_array_equal(found.position[feature][there], best.argmax(axis=1)[order][there])
        expected = np.bincount(np.asarray(bin_of(jnp.asarray(flat[..., feature][mask]))), minlength=BINS)
        np.testing.assert_array_equal(found.histogram[feature], expected)


@settings(deadline=None)
@given(value=_NUMBERS)
def test_a_number_lies_between_the_edges_of_its_bin(value):
    edges, number = bin_edges(), int(bin_of(jnp.float32(value)))
    if abs(value) < edges[-1]:
        assert edges[number] <= np.float32(value) <= edges[number + 1]
    else:
        assert number == (BINS - 1 if value > 0 else 0)


@settings(deadline=None)
@given(values=st.lists(_NUMBERS, min_size=1, max_size=200), at=st.sampled_from([1.0, 50.0, 99.0, 99.9, 100.0]))
def test_percentiles_are_within_a_bin_of_the_sorted_ones(values, at):
    array = np.asarray(values, np.float32)
    histogram = np.bincount(np.asarray(bin_of(jnp.asarray(array))), minlength=BINS)[None]
    found = float(percentiles(histogram, array.max(keepdims=True), (at,))[0, 0])
    rank = int(np.ceil(at / 100 * len(array))) - 1
    exact = np.sort(array)[max(rank, 0)]
    assert abs(int(bin_of(jnp.float32(found))) - int(bin_of(jnp.float32(exact)))) <= 1
    assert found <= array.max()
