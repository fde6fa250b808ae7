from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epo_jax.epo.algorithm import Algorithm
from epo_jax.epo.objective import objective, penalty_grid
from epo_jax.epo.scorer import Scores
from epo_jax.epo.select import restart_penalty, select
from epo_jax.epo.state import Info, State

SEEDS = st.integers(0, 2**32 - 1)


def trajectory(algorithm: Algorithm, run: int, steps: int) -> list[tuple[State, Info, State]]:
    """(state before, info, state after) of each step."""
    state, made = algorithm.init(jax.random.key(run)), []
    for _ in range(steps):
        new, info = algorithm.step(state)
        made.append((state, info, new))
        state = new
    return made


def pool_of(before: State, info: Info) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, feature and cross-entropy of parents and children."""
    return (
        np.concatenate([before.ids, info.ids]),
        np.concatenate([before.feature, info.feature]),
        np.concatenate([before.cross_entropy, info.cross_entropy]),
    )


@settings(max_examples=20, deadline=None)
@given(SEEDS, SEEDS)
def test_a_slots_objective_never_falls_between_restarts(toy, seed, run):
    algorithm = toy(seed, restart_every=4)
    for before, info, after in trajectory(algorithm, run, 9):
        if np.isnan(info.restart_penalty):
            old = objective(before.feature, before.cross_entropy, algorithm.penalties)
            new = objective(after.feature, after.cross_entropy, algorithm.penalties)
            assert (np.asarray(new) >= np.asarray(old)).all()


@settings(max_examples=20, deadline=None)
@given(SEEDS, SEEDS)
def test_each_slot_keeps_the_pools_best_under_its_own_penalty(toy, seed, run):
    algorithm = toy(seed)
    for before, info, after in trajectory(algorithm, run, 5):
        ids, feature, cross_entropy = pool_of(before, info)
        for slot, penalty in enumerate(np.asarray(algorithm.penalties)):
            best = np.argmax(feature - penalty * cross_entropy)
            assert int(info.selected[slot]) == best
            assert np.array_equal(after.ids[slot], ids[best])
            assert (after.feature[slot], after.cross_entropy[slot]) == (feature[best], cross_entropy[best])


@settings(max_examples=20, deadline=None)
@given(SEEDS, SEEDS)
def test_a_restart_leaves_one_prompt_the_pools_best_under_the_penalty_that_was_drawn(toy, seed, run):
    algorithm = toy(seed, restart_every=3, restart_bounds=(0.5, 8.0))
    drawn = []
    for before, info, after in trajectory(algorithm, run, 7):
        iteration = int(info.iteration)
        assert np.isnan(info.restart_penalty) == (iteration % 3 != 0)
        if iteration % 3 == 0:
            penalty = np.float32(info.restart_penalty)
            assert 0.5 <= penalty <= 8.0
            ids, feature, cross_entropy = pool_of(before, info)
            best = np.argmax(feature - penalty * cross_entropy)
            assert (np.asarray(after.ids) == ids[best]).all()
            drawn.append(float(penalty))
    assert len(set(drawn)) == 2, "each restart draws anew"


def test_restart_penalties_are_uniform_within_their_bounds():
    bounds = jnp.asarray([2 / 3, 6.0])
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(lambda key: restart_penalty(key, jnp.int32(30), jnp.int32(30), bounds))(keys))
    counts, _ = np.histogram(drawn, bins=8, range=(2 / 3, 6.0))
    assert counts.sum() == 4000
    # Chi-square with 7 degrees of freedom: above 30 in one of 10,000 draws.
    assert ((counts - 500) ** 2 / 500).sum() < 30


@pytest.mark.parametrize(("iteration", "every", "due"), [(30, 30, True), (29, 30, False), (7, 0, False), (0, 0, False)])
def test_restarts_come_at_multiples_of_their_period_and_zero_means_never(iteration, every, due):
    penalty = restart_penalty(jax.random.key(0), jnp.int32(iteration), jnp.int32(every), jnp.asarray([1.0, 2.0]))
    assert bool(jnp.isnan(penalty)) != due


def test_selection_is_with_replacement():
    # The second prompt is best in both values, so every slot takes it.
    pool = Scores(jnp.asarray([1.0, 5.0, 2.0]), jnp.asarray([4.0, 1.0, 3.0]))
    assert select(pool, penalty_grid(0.1, 10, 4), jnp.float32(jnp.nan)).tolist() == [1, 1, 1, 1]


def test_a_parent_wins_a_tie_and_what_is_not_a_number_never_wins():
    pool = Scores(jnp.asarray([1.0, 1.0, jnp.nan, jnp.inf]), jnp.asarray([1.0, 1.0, 0.0, jnp.inf]))
    assert select(pool, penalty_grid(1, 1, 2), jnp.float32(jnp.nan)).tolist() == [0, 0]


def test_penalties_are_uniform_in_the_logarithm():
    np.testing.assert_allclose(penalty_grid(0.1, 10, 5), [0.1, 10**-0.5, 1, 10**0.5, 10], rtol=1e-6)
    np.testing.assert_allclose(penalty_grid(0.1, 10, 1), [0.1], rtol=1e-6)
    np.testing.assert_array_equal(penalty_grid(0, 0, 3), [0, 0, 0])
    np.testing.assert_allclose(penalty_grid(2.5, 2.5, 3), [2.5, 2.5, 2.5])
