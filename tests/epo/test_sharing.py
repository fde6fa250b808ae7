from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epo_jax.epo.groups import in_groups
from epo_jax.epo.sharing import Sharing


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 12), st.integers(1, 16))
def test_every_child_of_every_slot_is_made_once_and_comes_back_to_its_place(slots, children, devices):
    sharing = Sharing(slots, children, devices)
    names, made = [], []
    for device in range(devices):
        units = sharing.of(device)
        assert units.numbers.shape == (sharing.units, sharing.children_per_part)
        name = np.where(units.used, np.asarray(units.slot)[:, None] * 100 + np.asarray(units.numbers), -1)
        made += name[np.asarray(units.used)].tolist()
        names.append(name.reshape(-1))
    assert sorted(made) == [slot * 100 + child for slot in range(slots) for child in range(children)]
    together = sharing.together(jnp.asarray(np.concatenate(names)))
    assert together.tolist() == [[slot * 100 + child for child in range(children)] for slot in range(slots)]


def test_slots_are_shared_evenly_and_split_only_where_devices_are_left():
    assert (Sharing(8, 32, 8).units, Sharing(8, 32, 8).parts) == (1, 1)
    assert (Sharing(128 * 8, 32, 8).units, Sharing(128 * 8, 32, 8).parts) == (128, 1)
    assert (Sharing(4, 32, 8).parts, Sharing(4, 32, 8).children_per_part) == (2, 16)
    assert Sharing(3, 32, 8).units == 1


@pytest.mark.parametrize("size", [1, 3, 5, 7, 100])
def test_groups_of_any_size_give_the_same_results(size):
    rows = jnp.arange(14.0).reshape(7, 2)
    seen = []

    def function(part):
        seen.append(part[0].shape[0])
        return {"sum": part[0].sum(axis=1), "same": part[1]}

    found = in_groups(function, (rows, jnp.arange(7)), size)
    assert max(seen) <= size
    assert np.array_equal(found["sum"], rows.sum(axis=1))
    assert np.array_equal(found["same"], np.arange(7))


def test_dreams_in_one_program_are_the_dreams_alone(toy):
    weights = (1.0, -1.0, 0.3)
    together = toy(weights=weights, restart_every=2)
    keys = jax.random.split(jax.random.key(8), 3)
    states = together.init(keys)
    states, infos = together.advance(states, 5, 6)
    for dream, weight in enumerate(weights):
        alone = toy(weights=(weight,), restart_every=2)
        state, info = alone.advance(alone.init(keys[dream : dream + 1]), 5, 6)
        assert np.array_equal(infos.ids[:, dream], info.ids[:, 0])
        assert np.array_equal(states.ids[dream], state.ids[0])
        assert np.array_equal(infos.feature[:, dream], info.feature[:, 0])
        assert np.array_equal(infos.restart_penalty[:, dream], info.restart_penalty[:, 0], equal_nan=True)
    assert not np.array_equal(states.ids[0], states.ids[1])


def test_a_key_given_to_init_stays_usable_after_the_state_is_given_away(toy):
    algorithm = toy()
    key = jax.random.key(1)
    algorithm.advance(algorithm.init(key), 1, 2)
    assert jax.random.key_data(key).shape == (2,)
