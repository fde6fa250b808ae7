"""The device is never kept waiting for the host."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epo_jax
from epo_jax import EPOConfig
from epo_jax.dream import chunks
from epo_jax.dream import history as histories
from epo_jax.dream.chunks import CAPACITY, Pace
from epo_jax.epo import Algorithm

SMALL = EPOConfig(iterations=7, population=3, children=4, length=5, top_k=40, restart_every=3)


@pytest.fixture
def events(monkeypatch):
    """("dispatch", steps) and ("fetch", steps), in the order in which they happen."""
    seen = []
    advance, fetch = Algorithm.advance, histories.of_infos

    def dispatched(self, state, steps, capacity):
        count = int(jax.device_get(steps))
        assert 1 <= count <= capacity == CAPACITY
        seen.append(("dispatch", count))
        return advance(self, state, steps, capacity)

    def fetched(infos, steps):
        seen.append(("fetch", steps))
        return fetch(infos, steps)

    monkeypatch.setattr(Algorithm, "advance", dispatched)
    monkeypatch.setattr(histories, "of_infos", fetched)
    return seen


@pytest.mark.parametrize("iterations", [1, 2, 3, 41])
def test_the_next_chunk_is_under_way_before_the_last_one_is_fetched_and_none_runs_over(tiny, events, iterations):
    made = epo_jax.dream(tiny, "L1.N5", dataclasses.replace(SMALL, iterations=iterations), seed=4)
    assert made.history.iteration[-1] == iterations
    kinds = [kind for kind, _ in events]
    chunks_made = kinds.count("dispatch")
    if chunks_made == 1:
        assert kinds == ["dispatch", "fetch"]
    else:
        assert kinds == ["dispatch", *["dispatch", "fetch"] * (chunks_made - 1), "fetch"]
    for kind in ("dispatch", "fetch"):
        assert sum(steps for each, steps in events if each == kind) == iterations


def test_chunks_end_at_multiples_of_their_length_also_where_they_begin_between_two(tiny, events, monkeypatch):
    monkeypatch.setattr(Pace, "steps", property(lambda pace: 8 if pace.chunks else 1))
    epo_jax.dream(tiny, "L1.N5", dataclasses.replace(SMALL, iterations=30), seed=4)
    assert [steps for kind, steps in events if kind == "dispatch"] == [1, 1, 6, 8, 8, 6]


def test_a_stop_gives_exactly_what_was_reported_although_more_is_under_way(tiny, events):
    whole = epo_jax.dream(tiny, "L1.N5", SMALL, seed=4).history
    events.clear()
    made = epo_jax.dream(tiny, "L1.N5", SMALL, seed=4, callback=lambda told: told.iteration == 2)
    assert made.run.stopped == "stopped by the callback after iteration 2"
    assert sum(steps for kind, steps in events if kind == "dispatch") > 2
    assert made.history.ids.tobytes() == whole.ids[whole.iteration <= 2].tobytes()


def test_histories_do_not_depend_on_where_chunks_end(tiny, monkeypatch):
    whole = epo_jax.dream(tiny, "L1.N5", SMALL, seed=4).history
    for steps in (1, 3, 16):
        monkeypatch.setattr(Pace, "steps", property(lambda _, steps=steps: steps))
        again = epo_jax.dream(tiny, "L1.N5", SMALL, seed=4).history
        for name in ("ids", "feature", "cross_entropy", "iteration"):
            assert getattr(whole, name).tobytes() == getattr(again, name).tobytes()


def test_the_pace_is_that_between_fetches_without_the_first(monkeypatch):
    pace = Pace()
    assert pace.steps == 1
    pace = pace.after(1, 60.0)
    assert np.isnan(pace.steps_per_second)
    assert pace.steps == 1
    pace = pace.after(1, 0.25)
    assert pace.steps == pace.steps_per_second == 4
    pace = pace.after(9, 0.25)
    assert pace.steps_per_second == 20
    assert pace.steps == CAPACITY
    assert Pace(2, 1, 100.0).steps == 1


def test_the_guard_of_these_tests_refuses_transfers_that_are_not_asked_for(tiny, monkeypatch):
    monkeypatch.setattr(Algorithm, "_placed", lambda _, steps: jnp.int32(steps))
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        epo_jax.dream(tiny, "L1.N5", dataclasses.replace(SMALL, iterations=1), micro_batch=64)


@pytest.mark.parametrize("iterations", [1, 5])
def test_a_profile_is_the_trace_of_one_iteration_and_changes_nothing(tiny, tmp_path, events, monkeypatch, iterations):
    entered = []
    trace = jax.profiler.trace

    def traced(folder):
        entered.append((folder, len([kind for kind, _ in events if kind == "dispatch"])))
        return trace(folder)

    config = dataclasses.replace(SMALL, iterations=iterations)
    plain = epo_jax.dream(tiny, "L1.N5", config, seed=4)
    events.clear()
    monkeypatch.setattr(chunks.jax.profiler, "trace", traced)
    made = epo_jax.dream(tiny, "L1.N5", config, seed=4, profile_dir=tmp_path / "profile")
    assert made.history.ids.tobytes() == plain.history.ids.tobytes()
    # One iteration runs before it where there is one to spare, and it makes a single step.
    assert entered == [(str(tmp_path / "profile"), min(iterations, 2) - 1)]
    assert events[entered[0][1]] == ("dispatch", 1)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_profile_folder_that_cannot_be_written_is_refused(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(epo_jax.EpoError, match="--profile_dir="):
        epo_jax.dream(tiny, "L1.N5", SMALL, profile_dir=tmp_path / "file" / "profile")
