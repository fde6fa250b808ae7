"""Dreams of one feature that differ from each other."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from epo_jax.epo.diversity import shared_share


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_share_is_that_of_tokens_which_earlier_dreams_of_the_group_hold(seed):
    rng = np.random.default_rng(seed)
    members, ids = rng.integers(0, 9, (4, 3, 5)), rng.integers(-1, 9, (4, 7, 5))
    group = rng.integers(0, 2, 4)
    found = shared_share(jnp.asarray(members, jnp.int32), jnp.asarray(group, jnp.int32), jnp.asarray(ids, jnp.int32), 9)
    for dream in range(4):
        before = {int(token) for other in range(dream) if group[other] == group[dream] for token in members[other].flat}
        # What is below 0 is no token, neither of those that are shared nor of all.
        tokens = [[token for token in prompt if token >= 0] for prompt in ids[dream].tolist()]
        expected = [sum(token in before for token in prompt) / max(len(prompt), 1) for prompt in tokens]
        np.testing.assert_allclose(found[dream], expected, rtol=1e-6)


def test_dreams_of_a_group_hold_fewer_tokens_in_common_and_the_first_is_as_it_is_alone(toy):
    apart, free = (
        toy(weights=(1.0, 1.0, 1.0), vocabulary=60, children=12, options={"diversity": diversity, "beginnings": 1})
        for diversity in (2.0, 0.0)
    )
    apart = dataclasses.replace(apart, group=jnp.zeros(3, jnp.int32))
    ends = []
    for algorithm in (apart, free):
        state = algorithm.init(jax.random.split(jax.random.key(0), 3))
        for _ in range(20):
            state, _ = algorithm.step(state)
        ends.append(np.asarray(state.ids))
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    common = [len(set(ids[0].flat) & set(ids[1].flat)) + len(set(ids[0].flat) & set(ids[2].flat)) for ids in ends]
    assert common[0] < common[1]
