"""What guides a search: shares of operators and positions, kept tokens, penalties."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from toy_search import first_edits, trajectory

from epo_jax.epo.algorithm import Algorithm
from epo_jax.epo.guide import WIDTH, Memory
from epo_jax.epo.shares import LEAST_SHARE, operator_shares, position_shares
from epo_jax.epo.work import penalties_of

GIVEN = {"penalties": "given"}


def memory_of(algorithm: Algorithm, run: int = 0) -> tuple[Memory, Memory]:
    """What one dream remembers after the initial prompts, with the axis of dreams and without."""
    memory = algorithm.init(jax.random.key(run)).memory
    return jax.tree.map(lambda leaf: leaf[None], memory), memory


def counted(memory: Memory, tried: np.ndarray, won: np.ndarray) -> Memory:
    """With children of each slot, operator and position, [P, O, T], that were tried and taken."""
    stacked = (jnp.asarray(each, jnp.float32)[None] for each in (tried, won))
    return dataclasses.replace(memory, **dict(zip(("tried", "won"), stacked, strict=True)))


def test_operators_get_shares_by_their_children_taken_per_row(toy):
    options = {"operators": "model_swap:3,uniform_swap:1", "adaptation": 0.5}
    algorithm = toy(options=options)
    stacked, _ = memory_of(algorithm)
    np.testing.assert_allclose(operator_shares(algorithm.guide, stacked)[0], np.tile([0.75, 0.25], (4, 1)), rtol=1e-5)
    # So much is known of three slots that nothing else counts. In slot 1 the second operator won four times as often,
    # in slot 2 the first one's edits cost five times as much.
    tried, won = np.zeros((4, 2, 5)), np.zeros((4, 2, 5))
    tried[:2, :, 4], won[:2, :, 4] = 1e6, 1e5
    won[1, 1, 4] *= 4
    tried[2, 0, 0], tried[2, 1, 4] = 1e6, 1e6
    won[2, 0, 0], won[2, 1, 4] = 1e5, 1e5
    shares = operator_shares(algorithm.guide, counted(stacked, tried, won))[0]
    for slot, ratio in enumerate((1, 4, 5)):
        np.testing.assert_allclose(shares[slot], np.asarray([3, ratio**0.5]) / (3 + ratio**0.5), rtol=1e-2)
    # Where nothing is known, the rates of all slots count.
    ratio = (6e5 / 3e6) / (3e5 / 7e6)
    np.testing.assert_allclose(shares[3], np.asarray([3, ratio**0.5]) / (3 + ratio**0.5), rtol=1e-2)
    fixed = toy(options={**options, "adaptation": 0.0})
    shares = operator_shares(fixed.guide, counted(stacked, tried, won))[0]
    np.testing.assert_allclose(shares, np.tile([0.75, 0.25], (4, 1)), rtol=1e-5)


def test_no_operator_is_ever_given_up(toy):
    algorithm = toy(options={"operators": "model_swap,uniform_swap,deletion", "adaptation": 3.0})
    stacked, _ = memory_of(algorithm)
    won = np.full((4, 3, 5), 1e3)
    won[:, 1] = 0
    shares = np.asarray(operator_shares(algorithm.guide, counted(stacked, np.full((4, 3, 5), 1e4), won)))
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)
    assert shares.min() >= LEAST_SHARE / 3 / (1 + LEAST_SHARE)
    assert (shares[..., 1] < shares[..., 0]).all()


def test_positions_get_shares_by_success_and_none_where_they_may_not_move(toy):
    algorithm = toy(options={})
    stacked, _ = memory_of(algorithm)
    by_success = toy(options={"positions": "success"}).guide
    np.testing.assert_allclose(position_shares(by_success, stacked, None), 0.2, rtol=1e-5)
    won = dataclasses.replace(stacked, won=stacked.won.at[0, 1, :, 2].add(1.0))
    moved = np.asarray(position_shares(by_success, won, None))[0]
    # What one slot learns the others learn in part.
    assert moved[1, 2] > moved[0, 2] > 0.2
    # As many tries at each position cost least at the end.
    tried = dataclasses.replace(stacked, tried=stacked.tried + 1e3, won=stacked.won + 10.0)
    assert (np.diff(np.asarray(position_shares(by_success, tried, None)), axis=-1) >= 0).all()
    movable = jnp.asarray([True, False, True, True, False])
    held = np.asarray(position_shares(by_success, won, movable))
    assert (held[..., [1, 4]] == 0).all()
    np.testing.assert_allclose(held.sum(axis=-1), 1, rtol=1e-5)
    uniform = np.asarray(position_shares(toy(options={"positions": "uniform"}).guide, won, movable))
    np.testing.assert_allclose(uniform[..., [0, 2, 3]], 1 / 3, rtol=1e-5)


def test_what_was_tried_and_taken_is_counted_and_fades(toy):
    algorithm = toy(options={"operators": "model_swap"})
    for before, info, after in trajectory(algorithm, 3, 3):
        scored, first = np.asarray(info.scored), first_edits(before, info)
        taken = np.isin(4 + np.arange(24), np.asarray(info.selected))
        for old, new, counted in (
            (before.memory.tried, after.memory.tried, scored),
            (before.memory.won, after.memory.won, taken),
        ):
            added = np.zeros((4, 5))
            np.add.at(added, (np.arange(24)[counted] // 6, first[counted]), 1)
            np.testing.assert_allclose(new[:, 0], 0.97 * np.asarray(old)[:, 0] + added, rtol=1e-5)


def test_an_operator_that_fails_loses_its_share_to_one_that_helps(toy):
    # The first writes what is likely, and fluency is all that counts here; the other one draws evenly.
    options = {"operators": "uniform_swap,model_swap", **GIVEN, "adaptation": 1.0, "noise": 1000.0}
    algorithm = toy(length=8, vocabulary=200, children=16, bounds=(50.0, 100.0), options=options)
    state = trajectory(algorithm, 0, 12)[-1][2]
    shares = np.asarray(operator_shares(algorithm.guide, jax.tree.map(lambda leaf: leaf[None], state.memory)))
    assert shares[..., 1].mean() > 0.6


def test_kept_tokens_change_by_equal_factors_from_the_first_iteration_to_the_last(toy):
    guide = toy(iterations=20, options={"kept_first": 128, "kept_last": 8}).guide
    kept = np.asarray(guide.kept_at(jnp.arange(26)))
    assert (kept[0], kept[5], kept[10], kept[15], kept[20]) == (128, 64, 32, 16, 8)
    assert (kept[20:] == 8).all()
    assert (np.diff(kept) <= 0).all()
    rising = toy(iterations=20, options={"kept_first": 3, "kept_last": 300}).guide
    assert np.asarray(rising.kept_at(jnp.asarray([0, 10, 20]))).tolist() == [3, 30, 300]
    constant = toy(options={"kept_first": 7, "kept_last": 7}).guide
    assert np.asarray(constant.kept_at(jnp.arange(25))).tolist() == [7] * 25


def test_gradient_swaps_draw_from_as_many_tokens_as_are_kept(toy):
    options = {"operators": "gradient_swap", "kept_first": 2, "kept_last": 2, **GIVEN, "noise": 1000.0}
    algorithm = toy(children=40, options=options)
    tables = algorithm.scorer
    for before, info, _ in trajectory(algorithm, 1, 3):
        for slot, penalty in enumerate(np.asarray(algorithm.penalties)):
            slope = np.asarray(tables.table) - penalty * np.asarray(tables.surprise) / 5
            slope = np.where(np.asarray(algorithm.allowed), slope, -np.inf)
            best = {(t, v) for t in range(5) for v in np.argsort(-slope[t])[:2]}
            part = slice(40 * slot, 40 * slot + 40)
            ids = np.asarray(info.ids)[part][np.asarray(info.scored)[part]]
            swaps = {(t, child[t]) for child in ids for t in np.flatnonzero(child != np.asarray(before.ids)[slot])}
            assert swaps <= best


def test_positions_by_gradient_are_those_where_it_is_large(toy):
    options = {"operators": "uniform_swap", "positions": "gradient", **GIVEN, "noise": 1000.0}
    algorithm = toy(children=60, bounds=(0.001, 0.001), options=options)
    flat = algorithm.scorer.table.at[jnp.asarray([0, 3])].set(0.0)
    even = jnp.zeros_like(algorithm.scorer.surprise)
    scorer = dataclasses.replace(algorithm.scorer, table=flat, surprise=even)
    edited = np.concatenate(
        [
            first_edits(before, info)[np.asarray(info.scored)]
            for before, info, _ in trajectory(dataclasses.replace(algorithm, scorer=scorer), 0, 4)
        ]
    )
    assert set(edited.tolist()) == {1, 2, 4}


def test_penalties_follow_the_slope_of_the_frontier_found_so_far(toy):
    algorithm = toy(seed=3, options={"penalties": "frontier"})
    made = trajectory(algorithm, 5, 6)
    feature, cross_entropy = np.asarray(made[0][0].feature), np.asarray(made[0][0].cross_entropy)
    told = []
    for before, info, after in made:
        stacked = jax.tree.map(lambda leaf: leaf[None], before)
        slope = (feature.max() - feature[cross_entropy.argmin()]) / WIDTH
        expected = (slope if slope > 0 else 1 / WIDTH) * np.asarray(algorithm.penalties)
        np.testing.assert_allclose(penalties_of(algorithm, stacked)[0], expected, rtol=1e-5)
        told.append(float(expected[0]))
        scored = np.asarray(info.scored)
        feature = np.concatenate([feature, np.asarray(info.feature)[scored]])
        cross_entropy = np.concatenate([cross_entropy, np.asarray(info.cross_entropy)[scored]])
        assert float(after.memory.highest) == feature.max()
    assert len(set(told)) > 2


def test_penalties_that_are_given_are_in_units_of_the_scale(toy):
    algorithm = dataclasses.replace(toy(weights=(1.0, 2.0), options=GIVEN), scale=jnp.asarray([1.0, 4.0]))
    state = algorithm.init(jax.random.split(jax.random.key(0), 2))
    expected = np.outer([1.0, 4.0], np.asarray(algorithm.penalties))
    np.testing.assert_allclose(penalties_of(algorithm, state), expected, rtol=1e-6)
