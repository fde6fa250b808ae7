"""Searches with a guide, over the toy: what they score, and what they keep."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_search import first_edits, scored_ids, trajectory

from epo_jax.epo import algorithm as module
from epo_jax.epo.algorithm import Algorithm
from epo_jax.epo.objective import objective
from epo_jax.epo.work import penalties_of

SEEDS = st.integers(0, 2**32 - 1)
GIVEN = {"penalties": "given"}


@settings(max_examples=10, deadline=None)
@given(SEEDS, SEEDS)
def test_no_prompt_is_scored_twice(toy, seed, run):
    made = trajectory(toy(seed, options={}), run, 8)
    seen = [np.asarray(made[0][0].ids), *(scored_ids(info) for _, info, _ in made)]
    prompts = np.concatenate(seen)
    assert len(np.unique(prompts, axis=0)) == len(prompts)
    assert len(prompts) > 4 + 8 * 24 / 2


def test_without_an_archive_prompts_come_again(toy):
    # In the end of so small a search there is little that is new.
    made = trajectory(toy(length=2, vocabulary=9, options={"archive": False}), 0, 12)
    prompts = np.concatenate([scored_ids(info) for _, info, _ in made])
    assert len(np.unique(prompts, axis=0)) < len(prompts)


def test_where_all_prompts_are_known_nothing_is_scored_and_the_search_goes_on(toy):
    algorithm = toy(length=2, vocabulary=5, iterations=400, options={})
    made = trajectory(algorithm, 0, 60)
    prompts = np.concatenate([np.asarray(made[0][0].ids), *(scored_ids(info) for _, info, _ in made)])
    # Three tokens are allowed.
    assert len(prompts) <= 9 + 4
    before, info, after = made[-1]
    assert not np.asarray(info.scored).any()
    assert np.isnan(np.asarray(info.feature)).all()
    np.testing.assert_array_equal(before.ids, after.ids)
    assert int(after.iteration) == 60


@settings(max_examples=8, deadline=None)
@given(SEEDS, SEEDS, st.booleans())
def test_slots_hold_different_prompts_if_that_is_asked_for(toy, seed, run, distinct):
    counts = [
        len(np.unique(np.asarray(after.ids), axis=0))
        for _, _, after in trajectory(toy(seed, options={"distinct": distinct}), run, 6)
    ]
    assert not distinct or counts == [4] * 6


def test_slots_may_hold_one_prompt_where_that_is_allowed(toy):
    algorithm = toy(bounds=(1.0, 1.01), options={"distinct": False})
    assert len(np.unique(np.asarray(trajectory(algorithm, 0, 6)[-1][2].ids), axis=0)) < 4


@settings(max_examples=8, deadline=None)
@given(SEEDS, SEEDS, st.booleans())
def test_a_slots_objective_never_falls_under_penalties_that_are_given(toy, seed, run, distinct):
    algorithm = toy(seed, options={**GIVEN, "distinct": distinct})
    # Where slots hold different prompts, one may lose its own to a slot before it.
    slots = slice(1 if distinct else None)
    for before, info, after in trajectory(algorithm, run, 8):
        assert np.isnan(float(info.restart_penalty))
        old = objective(before.feature, before.cross_entropy, algorithm.penalties)
        new = objective(after.feature, after.cross_entropy, algorithm.penalties)
        assert (np.asarray(new) >= np.asarray(old))[slots].all()


@settings(max_examples=8, deadline=None)
@given(SEEDS, SEEDS)
def test_each_slot_takes_the_pools_best_that_no_slot_before_it_has(toy, seed, run):
    algorithm = toy(seed, options={})
    for before, info, after in trajectory(algorithm, run, 4):
        penalties = np.asarray(penalties_of(algorithm, jax.tree.map(lambda leaf: leaf[None], before)))[0]
        ids = np.concatenate([before.ids, info.ids])
        feature = np.concatenate([before.feature, info.feature])
        cross_entropy = np.concatenate([before.cross_entropy, info.cross_entropy])
        free = np.concatenate([np.ones(4, bool), np.asarray(info.scored)])
        for slot, penalty in enumerate(penalties):
            best = np.where(free, feature - penalty * cross_entropy, -np.inf).max()
            taken = int(info.selected[slot])
            assert free[taken]
            assert feature[taken] - penalty * cross_entropy[taken] == pytest.approx(best, rel=1e-5, abs=1e-5)
            np.testing.assert_array_equal(after.ids[slot], ids[taken])
            assert (after.feature[slot], after.cross_entropy[slot]) == (feature[taken], cross_entropy[taken])
            free &= (ids != ids[taken]).any(axis=1)


@settings(max_examples=8, deadline=None)
@given(SEEDS, SEEDS)
def test_banned_tokens_and_positions_that_may_not_move_are_left_alone(toy, seed, run):
    movable = jnp.asarray([True, False, True, True, False])
    algorithm = dataclasses.replace(toy(seed, banned=(0, 3, 9, 10, 11), options={}), movable=movable)
    start = toy(seed, banned=(0, 3, 9, 10, 11)).random_ids(jax.random.key(run))
    # What may not move may hold what may not be put there.
    start = start.at[:, 1].set(3)
    state = algorithm.init(jax.random.key(run), start)
    kept = {tuple(prompt) for prompt in np.asarray(start)[:, [1, 4]].tolist()}
    for _ in range(6):
        state, info = algorithm.step(state)
        ids = scored_ids(info)
        assert len(ids)
        assert {tuple(prompt) for prompt in ids[:, [1, 4]].tolist()} <= kept
        assert np.asarray(algorithm.allowed)[ids[:, [0, 2, 3]]].all()


@pytest.mark.parametrize(("operators", "passes"), [("model_swap,insertion", 1), ("model_swap,gradient_swap", 3)])
def test_rows_of_parents_and_of_what_stands_behind_each_edit_are_counted(toy, operators, passes):
    for before, info, _ in trajectory(toy(options={"operators": operators}), 2, 4):
        scored = np.asarray(info.scored)
        assert int(info.rows) == passes * 4 * 5 + (5 - first_edits(before, info)[scored]).sum()


def reached(algorithm: Algorithm, run: int, count: int) -> float:
    """What the first so many prompts reach, over all penalties."""
    state = algorithm.init(jax.random.key(run))
    feature, cross_entropy = [np.asarray(state.feature)], [np.asarray(state.cross_entropy)]
    while sum(map(len, feature)) < count:
        state, info = algorithm.step(state)
        scored = np.asarray(info.scored)
        feature.append(np.asarray(info.feature)[scored])
        cross_entropy.append(np.asarray(info.cross_entropy)[scored])
    found = np.concatenate(feature)[:count], np.concatenate(cross_entropy)[:count]
    values = found[0] - np.geomspace(0.1, 10, 12)[:, None] * found[1]
    return float(values.max(axis=1).mean())


def test_a_guided_search_reaches_more_than_the_papers_with_as_many_prompts(toy):
    sizes = {"length": 10, "vocabulary": 300, "top_k": 96, "children": 8, "iterations": 30}
    gains = []
    for seed in range(9):
        paper, best = toy(seed, **sizes, restart_every=30), toy(seed, **sizes, options={})
        gains.append(reached(best, seed, 700) - reached(paper, seed, 700))
    assert np.median(gains) > 0.3


def test_the_same_key_gives_the_same_search_and_chunks_of_any_length_are_the_same_steps(toy):
    algorithm = toy(options={})
    state = algorithm.init(jax.random.key(7))
    told = []
    for _ in range(5):
        state, info = algorithm.step(state)
        told.append(np.asarray(info.ids))
    for chunks in ((5,), (2, 3)):
        other, rows = algorithm.init(jax.random.key(7)), []
        for steps in chunks:
            other, infos = algorithm.advance(other, steps, 8)
            rows += list(np.asarray(infos.ids[:steps]))
        np.testing.assert_array_equal(np.stack(rows), np.stack(told))
        for a, b in zip(jax.tree.leaves(other.memory), jax.tree.leaves(state.memory), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(algorithm.init(jax.random.key(8)).ids, algorithm.init(jax.random.key(7)).ids)


def test_dreams_in_one_program_are_the_dreams_alone(toy):
    weights = (1.0, -1.0, 0.3)
    together = toy(weights=weights, options={})
    keys = jax.random.split(jax.random.key(8), 3)
    states, infos = together.advance(together.init(keys), 5, 6)
    for dream, weight in enumerate(weights):
        alone = toy(weights=(weight,), options={})
        state, info = alone.advance(alone.init(keys[dream : dream + 1]), 5, 6)
        np.testing.assert_array_equal(infos.ids[:, dream], info.ids[:, 0])
        np.testing.assert_array_equal(states.ids[dream], state.ids[0])
    assert not np.array_equal(states.ids[0], states.ids[1])


def test_all_settings_but_shapes_and_choices_are_traced(toy):
    first = toy(seed=0, bounds=(0.1, 10), options={"operators": "model_swap:1,gradient_swap:2"})
    state = first.init(jax.random.key(0))
    first.step(state)
    first.advance(state, 2, 8)
    compiled = [f._cache_size() for f in (module._init, module._step, module._advance)]
    changed = {"operators": "model_swap:5,gradient_swap:1", "adaptation": 0.1, "noise": 2.0, "kept_first": 9}
    second = toy(seed=5, bounds=(0.5, 2), banned=(2, 9), iterations=21, options={**changed, "kept_last": 4})
    state = second.init(jax.random.key(99))
    second.step(state)
    state, _ = second.advance(state, 5, 8)
    assert [f._cache_size() for f in (module._init, module._step, module._advance)] == compiled
    third = toy(options={"operators": "model_swap:1,gradient_swap:2", "oversample": 3})
    third.step(third.init(jax.random.key(0)))
    assert module._step._cache_size() == compiled[1] + 1, "a choice is a new compilation, so the count counts"


def test_a_step_in_two_halves_is_the_step_where_every_first_alternative_is_chosen(toy):
    plain = toy(weights=(1.0, -0.5), options={"momentum": 0.5})
    checked = dataclasses.replace(plain, checked=True)
    state = plain.init(jax.random.split(jax.random.key(5), 2))
    for _ in range(3):
        proposed, drawn = checked.propose(state)
        after, told = plain.step(state)
        offered = np.asarray(drawn.ids)
        assert offered.shape == (2, 24, plain.guide.oversample, 5)
        there = offered[0, 0][offered[0, 0, :, 0] >= 0]
        assert len(np.unique(there, axis=0)) == len(there) > 1
        state, info = checked.finish(state, proposed, offered[:, :, 0], drawn.operator)
        for part in ("ids", "feature", "cross_entropy", "iteration"):
            np.testing.assert_array_equal(getattr(state, part), getattr(after, part))
            np.testing.assert_array_equal(getattr(info, part), getattr(told, part))
        for a, b in zip(jax.tree.leaves(state.memory), jax.tree.leaves(after.memory), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not checked.redraws


def test_later_beginnings_start_from_prompts_of_their_own_and_the_end_from_the_best_of_all(toy):
    options = {"beginnings": 3, "merging": 0.25, **GIVEN}
    algorithm = toy(iterations=16, options=options)
    made = trajectory(algorithm, 2, 16)
    ids = np.asarray(algorithm.random_ids(jax.random.key(2)))
    assert ids.shape == (12, 5)
    np.testing.assert_array_equal(made[0][0].ids, ids[:4])
    # Twelve iterations for three beginnings.
    for number, at in ((1, 4), (2, 8)):
        np.testing.assert_array_equal(made[at][0].ids, ids[4 * number : 4 * number + 4])
    members = [made[at - 1] for at in (4, 8, 12)]
    penalties = np.asarray(algorithm.penalties)
    best = np.full(4, -np.inf)
    for before, info, _ in members:
        feature = np.concatenate([before.feature, np.asarray(info.feature)])
        nats = np.concatenate([before.cross_entropy, np.asarray(info.cross_entropy)])
        best = np.maximum(best, np.nanmax(feature - penalties[:, None] * nats, axis=1))
    merged = made[12][0]
    values = np.asarray(merged.feature) - penalties * np.asarray(merged.cross_entropy)
    # The first slot takes what it likes best.
    assert values[0] == pytest.approx(best[0], rel=1e-5)
    assert len(np.unique(np.asarray(merged.ids), axis=0)) == 4
    for _, info, _ in made:
        assert np.isnan(float(info.restart_penalty))


def test_of_many_prompts_those_that_slots_like_best_are_where_a_search_starts(toy):
    algorithm = toy(options={**GIVEN, "distinct": False})
    pool = toy(population=40).random_ids(jax.random.key(4))
    start = np.asarray(algorithm.best_of(pool))
    table, surprise = np.asarray(algorithm.scorer.table), np.asarray(algorithm.scorer.surprise)
    prompts, rows = np.asarray(pool), np.arange(5)
    for slot, penalty in enumerate(np.asarray(algorithm.penalties)):
        values = table[rows, prompts].sum(axis=1) - penalty * surprise[rows, prompts].mean(axis=1)
        np.testing.assert_array_equal(start[slot], prompts[values.argmax()])


def test_a_beam_writes_prompts_of_allowed_tokens_that_are_better_than_drawn_ones(toy):
    sizes = {"length": 8, "vocabulary": 60, "children": 10, "population": 4}
    algorithm = toy(**sizes, options={"beginnings": 2})
    ids = np.asarray(algorithm.beam(jax.random.key(3)))
    assert (ids.shape, ids.dtype) == ((8, 8), np.int32)
    assert np.asarray(algorithm.allowed)[ids].all()
    np.testing.assert_array_equal(ids, algorithm.beam(jax.random.key(3)))
    assert not np.array_equal(ids, algorithm.beam(jax.random.key(4)))
    assert len(np.unique(ids[:4], axis=0)) == len(np.unique(ids[4:], axis=0)) == 4
    written = algorithm.init(jax.random.key(0), jnp.asarray(ids))
    drawn = algorithm.init(jax.random.key(0))
    penalties = np.asarray(algorithm.penalties)
    for values in (written, written.memory.waiting):
        own, other = (one.feature - penalties * one.cross_entropy for one in (values, drawn))
        assert (np.asarray(own) > np.asarray(other)).all()
    together = toy(**sizes, weights=(1.0, -1.0), options={"beginnings": 2})
    both = together.beam(jnp.stack([jax.random.key(3), jax.random.key(3)]))
    np.testing.assert_array_equal(both[0], ids)
    assert not np.array_equal(both[1], ids)


@settings(max_examples=8, deadline=None)
@given(SEEDS, SEEDS, st.sampled_from([0.0, 0.2, 0.59, 1.0]))
def test_children_repeat_no_more_tokens_than_they_may_or_than_what_they_come_from(toy, seed, run, share):
    algorithm = toy(seed, options={"repetition": share})
    tame = jnp.asarray([[3, 4, 5, 6, 7], [3, 4, 5, 6, 8], [4, 5, 6, 7, 3], [5, 6, 7, 8, 3]])
    found = [most_repeated(info) for info in infos(algorithm, run, tame)]
    assert max(found) <= int(5 * share)
    wild = jnp.full((4, 5), 3).at[:, 0].set(jnp.arange(4, 8))
    assert max(most_repeated(info) for info in infos(algorithm, run, wild)) <= max(3, int(5 * share))


def test_where_any_tokens_may_be_repeated_they_are(toy):
    tame = jnp.asarray([[3, 4, 5, 6, 7], [3, 4, 5, 6, 8], [4, 5, 6, 7, 3], [5, 6, 7, 8, 3]])
    found = [most_repeated(info) for info in infos(toy(options={"repetition": 1.0}), 0, tame)]
    assert max(found) >= 2


def test_a_beam_repeats_no_more_tokens_than_it_may_as_long_as_there_are_others(toy):
    for share, most in ((0.0, 0), (0.25, 2)):
        ids = toy(length=8, vocabulary=14, children=10, options={"repetition": share}).beam(jax.random.key(1))
        assert max(len(prompt) - len(set(prompt)) for prompt in np.asarray(ids).tolist()) <= most
    # Six tokens are allowed: two of eight are repeated at least.
    ids = np.asarray(toy(length=8, vocabulary=8, children=4, options={"repetition": 0.0}).beam(jax.random.key(1)))
    assert {len(set(prompt)) for prompt in ids.tolist()} == {6}


def test_gradients_are_added_up_and_fade(toy):
    algorithm = toy(options={**GIVEN, "momentum": 0.5, "operators": "gradient_swap"})
    table, surprise = np.asarray(algorithm.scorer.table), np.asarray(algorithm.scorer.surprise)
    # The toy's gradient is the same everywhere.
    one = table - np.asarray(algorithm.penalties)[:, None, None] * surprise / 5
    for number, (before, _, after) in enumerate(trajectory(algorithm, 0, 4)):
        np.testing.assert_allclose(before.memory.gradient, one * (2 - 2.0 ** (1 - number)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after.memory.gradient, one * (2 - 2.0 ** (-number)), rtol=1e-5, atol=1e-6)
    assert trajectory(toy(options={"momentum": 0.0}), 0, 1)[0][2].memory.gradient is None


def infos(algorithm, run, ids):
    state = algorithm.init(jax.random.key(run), ids)
    for _ in range(6):
        state, info = algorithm.step(state)
        yield info


def most_repeated(info):
    return max((len(prompt) - len(set(prompt)) for prompt in scored_ids(info).tolist()), default=0)
