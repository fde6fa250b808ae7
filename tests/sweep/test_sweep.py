from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import epo_jax
from epo_jax import EPOConfig, EpoError
from epo_jax.config import BEST, OPTIONS
from epo_jax.dream import history as histories
from epo_jax.dream.run_lock import RunLock
from epo_jax.sweep import Summary, SweepProgress, run, sweep
from epo_jax.sweep.folder import CLAIMS, DREAMS
from epo_jax.sweep.table import SCHEMA

ROOT = Path(__file__).parents[2]
SMALL = EPOConfig(iterations=2, population=2, children=2, length=4, top_k=30)
NEURONS = [f"L{layer}.N{at}" for layer in range(2) for at in range(3)]


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than the dreams."""
    # The package has a function of the name of its module `dream`, so no dotted name leads here.
    module = sys.modules["epo_jax.dream.result"]
    monkeypatch.setattr(module, "write_frontier_png", lambda *_: None)
    monkeypatch.setattr(module, "write_report", lambda _, path: path.write_text("a report"))


@pytest.fixture
def dreamt(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The features of each batch that is dreamed, in order."""
    found: list[list[str]] = []
    dream = run.dream

    def counted(lm: Any, features: list[str], *arguments: Any, **options: Any) -> Any:
        found.append(features)
        return dream(lm, features, *arguments, **options)

    monkeypatch.setattr(run, "dream", counted)
    return found


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet").sort_values("number").reset_index(drop=True)


def test_guided_searches_are_swept_and_what_they_leave_open_is_kept(tiny, tmp_path, monkeypatch):
    one = {"beam": False, "model_starts": 4, "random_starts": 4, "operators": "model_swap"}
    config = dataclasses.replace(SMALL, search="best", **one)
    done = sweep(tiny, NEURONS[:3], config, output=tmp_path, dreams_at_once=2)
    assert (done.dreams, done.done, done.failed, done.stopped) == (3, 3, 0, "")
    rows = table(tmp_path)
    for row in rows.itertuples():
        result = epo_jax.load_result(tmp_path / row.run_folder)
        assert result.run.search == config
        assert row.best_value == result.history.feature.max()
    again = sweep(tiny, NEURONS[:3], config, output=tmp_path, dreams_at_once=2)
    assert again.done == 3
    monkeypatch.setitem(OPTIONS, BEST, dataclasses.replace(OPTIONS[BEST], oversample=3))
    with pytest.raises(EpoError, match=r"holds another sweep, with options "):
        sweep(tiny, NEURONS[:3], config, output=tmp_path, dreams_at_once=2)


def test_each_feature_gets_a_row_that_says_what_its_run_folder_says(tiny, tmp_path):
    told: list[SweepProgress] = []
    features = [*NEURONS, "L9.N0", "logit:e", "attention:L1.H0:9", "-attention:L1.H0:9"]
    done = sweep(tiny, features, SMALL, output=tmp_path, dreams_at_once=4, callback=told.append)
    assert (done.dreams, done.done, done.failed, done.stopped) == (10, 10, 3, "")
    rows = table(tmp_path)
    assert rows.columns.tolist() == SCHEMA.names
    assert rows["feature"].tolist() == features
    assert "0 to 2" in rows["error"][6], "no feature of the model, which was seen before any work"
    assert rows["error"][8].startswith("--feature=attention:L1.H0:9: "), "seen when its batch was built"
    assert rows["error"][9] == rows["error"][8], "what it is made of is wrong"
    for row in rows[rows["error"].isna()].itertuples():
        result = epo_jax.load_result(tmp_path / row.run_folder)
        assert (result.run.feature, result.run.seed) == (row.feature, row.seed)
        assert row.best_value == result.history.feature.max()
        at = int(result.history.feature.argmax())
        assert row.best_ids.tolist() == result.history.ids[at].tolist()
        assert row.best_text == tiny.tokenizer.decode(row.best_ids.tolist())
        assert row.best_cross_entropy == result.history.cross_entropy[at]
        assert (row.frontier_size, row.scored) == (len(result.frontier), len(result.history))
        assert (tmp_path / row.run_folder / "report.html").exists()
    assert told[-1].done == 10
    assert [one.done for one in told] == sorted(one.done for one in told)
    page = (tmp_path / "index.html").read_text()
    assert "10 of 10 dreams" in page
    assert f"dreams/000000/{NEURONS[0]}/report.html" in page
    assert [path.name for path in (tmp_path / CLAIMS).iterdir()] == ["layout.0"]


def test_a_sweep_that_was_stopped_goes_on_and_does_nothing_twice(tiny, tmp_path, dreamt):
    first = sweep(
        tiny, NEURONS, SMALL, output=tmp_path, dreams_at_once=2, reports=False, callback=lambda told: told.done == 2
    )
    assert (first.done, bool(first.stopped)) == (2, True)
    assert not list(tmp_path.rglob("report.html"))
    dreamt.clear()
    second = sweep(tiny, NEURONS, SMALL, output=tmp_path, dreams_at_once=2, reports=False)
    assert (second.done, second.stopped) == (6, "")
    assert dreamt == [NEURONS[2:4], NEURONS[4:6]]
    assert table(tmp_path)["feature"].tolist() == NEURONS
    third = sweep(tiny, NEURONS, SMALL, output=tmp_path, dreams_at_once=2, reports=False)
    assert (third.done, len(dreamt)) == (6, 2)
    with pytest.raises(EpoError, match="iterations 2 there and 3 here"):
        sweep(tiny, NEURONS, EPOConfig(**{**SMALL.to_json(), "iterations": 3}), output=tmp_path, dreams_at_once=2)


def test_ctrl_c_ends_it_gives_the_batch_back_and_the_next_call_goes_on(tiny, tmp_path):
    def interrupting(told: SweepProgress) -> None:
        if told.share > 0 and told.done == 2:
            raise KeyboardInterrupt

    first = sweep(tiny, NEURONS, SMALL, output=tmp_path, dreams_at_once=2, callback=interrupting)
    assert first.done == 2
    assert "interrupted" in first.stopped
    assert sweep(tiny, NEURONS, SMALL, output=tmp_path, dreams_at_once=2).done == 6
    assert table(tmp_path)["feature"].tolist() == NEURONS


def test_a_dream_that_is_not_finite_is_recorded_and_the_sweep_goes_on(tiny, tmp_path, monkeypatch):
    fetch = histories.of_infos

    def spoilt(*arguments: Any) -> histories.Chunk:
        chunk = fetch(*arguments)
        chunk.feature[:, 1] = np.nan
        return chunk

    monkeypatch.setattr(histories, "of_infos", spoilt)
    done = sweep(tiny, NEURONS[:4], SMALL, output=tmp_path, dreams_at_once=2)
    assert (done.done, done.failed, done.stopped) == (4, 2, "")
    assert table(tmp_path)["error"].isna().tolist() == [True, False, True, False]
    assert "not finite" in table(tmp_path)["error"][1]


def test_two_that_work_on_one_folder_share_the_batches(tiny, tmp_path, dreamt):
    """The second comes while the first is in its first batch, and does all the others."""
    given = {"output": tmp_path, "dreams_at_once": 2, "reports": False}
    others: list[Summary] = []

    def second(told: SweepProgress) -> None:
        if told.share > 0 and not others:
            others.append(sweep(tiny, NEURONS, SMALL, **given, callback=lambda told: told.done == 4))

    first = sweep(tiny, NEURONS, SMALL, **given, callback=second)
    assert (others[0].done, first.done) == (4, 6)
    assert dreamt == [NEURONS[:2], NEURONS[2:4], NEURONS[4:]], "none by both"
    assert table(tmp_path)["feature"].tolist() == NEURONS


def test_a_batch_that_was_taken_from_one_that_is_at_work_yet_is_dreamed_when_that_has_ended(
    tiny, tmp_path, monkeypatch, dreamt
):
    monkeypatch.setattr(run, "SECONDS_PER_BEAT", 0.05)
    monkeypatch.setattr(run, "SECONDS_PER_LOOK", 0.05)
    (tmp_path / DREAMS / "000000").mkdir(parents=True)
    lock = RunLock(tmp_path / DREAMS / "000000")

    def wakes(told: SweepProgress) -> None:
        if told.done == 2 and not told.together and lock:
            lock.release()

    assert sweep(tiny, NEURONS[:4], SMALL, output=tmp_path, dreams_at_once=2, reports=False, callback=wakes).done == 4
    assert dreamt == [NEURONS[2:4], NEURONS[:2]]


def test_what_no_feature_can_be_dreamed_with_ends_the_sweep(tiny, tmp_path):
    with pytest.raises(EpoError, match=r"none of the 2 features.*not a feature string"):
        sweep(tiny, ["nonsense", "more"], SMALL, output=tmp_path / "a")
    with pytest.raises(EpoError, match="--init_text"):
        sweep(tiny, NEURONS, SMALL, output=tmp_path / "b", init_text="quick brown fox")
    with pytest.raises(EpoError, match="--dreams_at_once=0"):
        sweep(tiny, NEURONS, SMALL, output=tmp_path / "c", dreams_at_once=0)


def test_batches_of_one_size_share_their_programs(tiny, tmp_path):
    with jax_compilations() as programs:
        sweep(tiny, NEURONS[:2], SMALL, output=tmp_path / "a", dreams_at_once=2, reports=False)
        before = len(programs)
        sweep(tiny, NEURONS, SMALL, output=tmp_path / "b", dreams_at_once=2, reports=False)
    assert len(programs) == before


@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_has_each_feature_exactly_once(tiny_folder, tmp_path):
    given = [f"--model={tiny_folder}", "--features=L0:3.N0:4", "--kills=1", "--workers=2", "--dreams_at_once=4"]
    command = [sys.executable, ROOT / "scripts" / "check_sweep.py", *given, "--iterations=500", "--latest=0.5"]
    done = subprocess.run([*command, f"--output={tmp_path}"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search("12 features, 1 kills: 12 rows, 0 missing, 0 doubled, 0 failed, 0 run folders", done.stdout)


class jax_compilations:  # noqa: N801
    """Collects the programs that are compiled meanwhile."""

    def __enter__(self) -> list[str]:
        import jax

        self.found: list[str] = []
        self.open = True
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return self.found

    def __exit__(self, *_: object) -> None:
        self.open = False

    def _heard(self, event: str, _: float, **__: object) -> None:
        if self.open and event.endswith("backend_compile_duration"):
            self.found.append(event)
