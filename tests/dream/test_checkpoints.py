"""Runs that are broken off and gone on with are the runs that were never broken off."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from broken_off import GUIDED, HISTORY, SMALL, broken, gone_on

import epo_jax
from epo_jax import Constraints, EpoError, NonFiniteError
from epo_jax.config import BEST, OPTIONS
from epo_jax.dream import history as histories
from epo_jax.dream import loop
from epo_jax.dream.checkpoint import load_checkpoint
from epo_jax.dream.identity import fingerprints

pytestmark = pytest.mark.usefixtures("one_step_at_a_time")


@pytest.mark.parametrize("after", [(1,), (3,), (2, 4, 6)])
def test_a_run_that_is_broken_off_and_gone_on_with_has_the_bytes_of_the_unbroken_one(tiny, whole, tmp_path, after):
    output = broken(tiny, tmp_path / "run", *after, checkpoint_every=60)
    assert (output / "checkpoints" / str(after[-1])).is_dir()
    told = []
    made = gone_on(tiny, output, callback=told.append)
    assert told[0].iteration == after[-1] + 1
    assert told[-1].scored == len(made.history)
    assert (output / HISTORY).read_bytes() == (whole / HISTORY).read_bytes()
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert made.run.seconds > 0
    assert epo_jax.load_result(output).run == made.run


def test_a_run_below_a_relative_path_is_saved_and_goes_on(tiny, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = broken(tiny, Path("dreams") / "run", 3)
    assert (output / "checkpoints" / "3").is_dir()
    gone_on(tiny, output)
    assert (output / HISTORY).read_bytes() == (whole / HISTORY).read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"operators": "model_swap:2,insertion:1", "archive": False},
        {"beam": True, "beginnings": 2, "momentum": 0.5},
    ],
)
def test_a_guided_run_goes_on_with_all_that_it_remembers(tiny, tmp_path, changes):
    asked = {"config": dataclasses.replace(GUIDED, **changes), "attribution": False, "continuation": False}
    gone_on(tiny, tmp_path / "whole", **asked)
    output = broken(tiny, tmp_path / "run", 2, 5, **asked)
    assert (output / "checkpoints" / "5").is_dir()
    made = gone_on(tiny, output, **asked)
    first = int((made.history.iteration == 0).sum())
    assert first == 3 * changes.get("beginnings", 1)
    assert first + 10 * 7 < len(made.history) <= first + 12 * 7
    assert (output / HISTORY).read_bytes() == (tmp_path / "whole" / HISTORY).read_bytes()


def test_what_a_guided_run_leaves_open_is_kept_too_and_may_not_change(tiny, tmp_path, monkeypatch):
    output = broken(tiny, tmp_path / "run", 2, config=GUIDED)
    monkeypatch.setitem(OPTIONS, BEST, dataclasses.replace(OPTIONS[BEST], oversample=3))
    with pytest.raises(EpoError, match=r"options\.oversample 4 \(now 3\)"):
        gone_on(tiny, output, config=GUIDED)


def test_files_of_the_papers_search_are_those_that_version_0_5_0_wrote(tiny, tmp_path):
    output = broken(tiny, tmp_path / "run", 2)
    (asked,) = json.loads((output / "checkpoints" / "run.json").read_text())
    sizes = {"iterations": 7, "population": 3, "children": 4, "length": 5, "top_k": 40, "restart_every": 3}
    penalties = {"lambda_min": 0.1, "lambda_max": 10.0, "restart_lambda_min": 2 / 3, "restart_lambda_max": 6.0}
    assert asked["search"] == {**sizes, **penalties, "search": "paper"}
    assert "options" not in asked
    state, _ = load_checkpoint(output / "checkpoints", 2)
    assert state.keys() == {"ids", "feature", "cross_entropy", "iteration", "key"}


@pytest.mark.parametrize("config", [SMALL, GUIDED], ids=["paper", "best"])
def test_several_dreams_and_children_that_are_looked_at_go_on_too(tiny, tmp_path, config):
    asked = {
        "config": config,
        "feature": ["L0.N3", "L1.N5"],
        "seed": [1, 2],
        "constraints": Constraints(retokenize="reject"),
        "scale": "random",
    }
    alone = gone_on(tiny, tmp_path / "whole", **asked)
    output = broken(tiny, tmp_path / "run", 2, 5, **asked)
    again = gone_on(tiny, output, **asked)
    for name in ("L0.N3-seed1", "L1.N5-seed2"):
        assert (output / name / HISTORY).read_bytes() == (tmp_path / "whole" / name / HISTORY).read_bytes()
    assert sorted(os.listdir(output)) == ["L0.N3-seed1", "L1.N5-seed2"]
    assert [result.run.scale_unit for result in again] == [result.run.scale_unit for result in alone]


def test_a_run_that_has_ended_is_returned_as_it_is(tiny, whole, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    monkeypatch.setattr(histories, "of_infos", lambda *_: pytest.fail("a step was made"))
    made = gone_on(tiny, whole)
    assert made.run == epo_jax.load_result(whole).run
    assert {path.name: path.stat().st_mtime_ns for path in whole.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 5}, "seed 4 (now 5)"),
        ({"feature": "L1.N6"}, "feature 'L1.N5' (now 'L1.N6')"),
        ({"config": dataclasses.replace(SMALL, top_k=41)}, "search.top_k 40 (now 41)"),
        ({"read": "max"}, "read 'last' (now 'max')"),
        ({"constraints": Constraints(ascii_only=True)}, "constraints.ascii_only False (now True)"),
    ],
)
def test_a_changed_setting_is_refused_with_the_difference(tiny, whole, tmp_path, changes, told):
    unended = broken(tiny, tmp_path / "run", 2)
    for folder in (whole, unended):
        with pytest.raises(EpoError, match="--resume") as caught:
            gone_on(tiny, folder, **changes)
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)


def with_table(lm, change):
    """The model with another embedding."""
    params = jax.tree.map(lambda leaf: leaf, lm.params)
    table = params["embedding"]["embedding"]
    params["embedding"]["embedding"] = table.replace(change(table.get_value()))
    return dataclasses.replace(lm, params=params)


def test_changed_weights_under_one_name_are_refused(tiny, tmp_path):
    output = broken(tiny, tmp_path / "run", 2)
    with pytest.raises(EpoError, match=r"fingerprints\.model"):
        gone_on(with_table(tiny, lambda table: table.at[3, 3].add(1e-6)), output)


def test_a_fingerprint_sees_one_changed_bit_and_numbers_that_change_places(tiny):
    changes = [
        lambda table: table,
        lambda table: table.at[3, 3].multiply(1 + 2.0**-23),
        lambda table: table.at[jnp.array([7, 8])].set(table[jnp.array([8, 7])]),
        lambda table: table[:, ::-1],
    ]
    feature = epo_jax.parse_feature("L1.N5", tiny)
    told = [fingerprints(with_table(tiny, change), [feature], None)[0]["model"] for change in changes]
    assert told[0] == fingerprints(tiny, [feature], None)[0]["model"]
    assert len(set(told)) == len(changes)


def test_without_a_checkpoint_a_run_starts_anew_also_where_the_same_one_began(tiny, whole, tmp_path):
    output = broken(tiny, tmp_path / "run", 2)
    for path in (output / "checkpoints").glob("[0-9]*"):
        shutil.rmtree(path)
    told = []
    gone_on(tiny, output, callback=told.append)
    assert told[0].iteration == 1
    assert (output / HISTORY).read_bytes() == (whole / HISTORY).read_bytes()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(EpoError, match="not empty"):
        gone_on(tiny, tmp_path / "mine")


def test_a_run_that_was_stopped_keeps_its_results_and_goes_on(tiny, whole, tmp_path):
    def interrupt(told: epo_jax.Progress) -> None:
        if told.iteration >= 3:
            raise KeyboardInterrupt

    output = tmp_path / "run"
    made = epo_jax.dream(tiny, "L1.N5", SMALL, seed=4, output=output, callback=interrupt, report=False)
    assert made.run.stopped == "interrupted after iteration 3"
    assert len(epo_jax.load_result(output).history) == 3 + 12 * 3
    with pytest.raises(EpoError, match="--resume"):
        epo_jax.dream(tiny, "L1.N5", SMALL, seed=4, output=output)
    assert not gone_on(tiny, output).run.stopped
    assert (output / HISTORY).read_bytes() == (whole / HISTORY).read_bytes()


def test_a_run_that_was_not_finite_says_so_again(tiny, tmp_path, monkeypatch):
    fetch = histories.of_infos

    def spoilt(*arguments):
        chunk = fetch(*arguments)
        chunk.feature[:, 0, 0] = np.nan
        return chunk

    monkeypatch.setattr(histories, "of_infos", spoilt)
    messages = []
    for _ in range(2):
        with pytest.raises(NonFiniteError) as caught:
            gone_on(tiny, tmp_path / "run")
        messages.append(str(caught.value))
        monkeypatch.setattr(histories, "of_infos", lambda *_: pytest.fail("a step was made"))
    assert messages[0] == messages[1]


def test_what_is_asked_of_resuming_is_checked(tiny, tmp_path):
    for options, told in (
        ({"resume": True}, "--output"),
        ({"resume": True, "overwrite": True, "output": tmp_path}, "give one of them"),
        ({"checkpoint_every": -1.0}, "--checkpoint_every=-1.0"),
        ({"keep_checkpoints": 0}, "--keep_checkpoints=0"),
    ):
        with pytest.raises(EpoError, match=told):
            epo_jax.dream(tiny, "L1.N5", SMALL, **options)


def test_another_version_is_told_and_allowed(tiny, whole, tmp_path, caplog, monkeypatch):
    output = broken(tiny, tmp_path / "run", 2)
    monkeypatch.setattr(loop, "versions", lambda: {"jax": "0.0"})
    with caplog.at_level(logging.WARNING):
        made = gone_on(tiny, output)
    assert "jax" in caplog.text
    assert "goes on after iteration 2" in caplog.text
    np.testing.assert_array_equal(made.history.ids, epo_jax.load_result(whole).history.ids)
    assert json.loads((output / "config.json").read_text())["versions"] == {"jax": "0.0"}
