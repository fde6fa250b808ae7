from __future__ import annotations

import jax
import numpy as np
import pytest

from epo_jax.epo import algorithm as module


def history(algorithm, run: int, steps: int, chunk: int) -> bytes:
    """Everything that a run tells, as bytes."""
    state, told = algorithm.init(jax.random.key(run)), b""
    told += b"".join(np.asarray(leaf).tobytes() for leaf in (state.ids, state.feature, state.cross_entropy))
    done = 0
    while done < steps:
        count = min(chunk, steps - done)
        state, infos = algorithm.advance(state, count, 8)
        fields = (infos.iteration, infos.ids, infos.feature, infos.cross_entropy, infos.selected)
        told += b"".join(np.asarray(field[row]).tobytes() for row in range(count) for field in fields)
        done += count
    return told


def test_the_same_seed_gives_a_byte_identical_history_and_another_seed_another_one(toy):
    algorithm = toy(restart_every=3)
    assert history(algorithm, 1, 12, 4) == history(algorithm, 1, 12, 4)
    assert history(algorithm, 1, 12, 4) != history(algorithm, 2, 12, 4)


def test_steps_in_chunks_of_any_length_are_the_same_steps(toy):
    algorithm = toy(restart_every=3)
    assert history(algorithm, 7, 12, 1) == history(algorithm, 7, 12, 8) == history(algorithm, 7, 12, 5)
    state = algorithm.init(jax.random.key(7))
    for _ in range(3):
        state, _ = algorithm.step(state)
    chunked, _ = algorithm.advance(algorithm.init(jax.random.key(7)), 3, 8)
    assert np.array_equal(state.ids, chunked.ids)
    assert int(chunked.iteration) == 3


def test_all_settings_but_shapes_are_traced(toy):
    first = toy(seed=0, bounds=(0.1, 10), restart_every=3)
    state = first.init(jax.random.key(0))
    first.step(state)
    first.advance(state, 2, 8)
    compiled = [f._cache_size() for f in (module._init, module._step, module._advance)]
    second = toy(seed=5, bounds=(0.5, 2), restart_every=7, restart_bounds=(1, 2), banned=(2, 9))
    state = second.init(jax.random.key(99))
    second.step(state)
    state, _ = second.advance(state, 5, 8)
    assert [f._cache_size() for f in (module._init, module._step, module._advance)] == compiled
    toy(children=7).step(state)
    assert module._step._cache_size() == compiled[1] + 1, "a new shape is a new compilation, so the count counts"


def test_one_slot_without_penalty_is_greedy_coordinate_gradient(toy):
    algorithm = toy(population=1, children=20, bounds=(0, 0), restart_every=0)
    state = algorithm.init(jax.random.key(3))
    for _ in range(40):
        new, info = algorithm.step(state)
        best = max(float(state.feature[0]), float(np.max(info.feature)))
        assert float(new.feature[0]) == best
        state = new
    table = np.where(np.asarray(algorithm.allowed), np.asarray(algorithm.scorer.table), -np.inf)
    assert float(state.feature[0]) == pytest.approx(table.max(axis=1).sum(), rel=1e-5), "the toy's optimum is found"


def test_given_initial_prompts_are_where_the_search_starts(toy):
    algorithm = toy()
    ids = np.tile(np.array([4, 5, 6, 7, 8], np.int32), (4, 1))
    state = algorithm.init(jax.random.key(0), jax.numpy.asarray(ids))
    assert np.array_equal(state.ids, ids)
    assert int(state.iteration) == 0
    table = np.asarray(algorithm.scorer.table)
    np.testing.assert_allclose(state.feature, table[np.arange(5), ids].sum(axis=1), rtol=1e-6)


def test_every_members_gradient_uses_the_penalty_of_the_slot_that_it_sits_in(toy):
    # After a restart all slots hold one prompt, so that only the penalties tell their children apart.
    algorithm = toy(population=3, children=60, top_k=4, bounds=(0.01, 30), restart_every=1)
    state, _ = algorithm.step(algorithm.init(jax.random.key(0)))
    assert (np.asarray(state.ids) == np.asarray(state.ids)[0]).all()
    _, info = algorithm.step(state)
    children = np.asarray(info.ids).reshape(3, 60, 5)
    tables, parent = algorithm.scorer, np.asarray(state.ids)[0]
    kept = []
    for slot, penalty in enumerate(np.asarray(algorithm.penalties)):
        slope = np.asarray(tables.table) - penalty * np.asarray(tables.surprise) / 5
        slope = np.where(np.asarray(algorithm.allowed), slope, -np.inf)
        slope[np.arange(5), parent] = -np.inf
        best = {(t, v) for t in range(5) for v in np.argsort(-slope[t])[:4]}
        swaps = {(t, child[t]) for child in children[slot] for t in np.flatnonzero(child != parent)}
        assert swaps <= best
        kept.append(best)
    assert kept[0] != kept[2], "the penalties matter here"
