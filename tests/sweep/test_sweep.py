from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import epo_jax
from epo_jax import EPOConfig, EpoError
from epo_jax.dream import history as histories
from epo_jax.sweep import SweepProgress, run, sweep
from epo_jax.sweep.folder import CLAIMS
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


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet").sort_values("number").reset_index(drop=True)


def test_each_feature_gets_a_row_that_says_what_its_run_folder_says(tiny, tmp_path):
    told: list[SweepProgress] = []
    features = [*NEURONS, "L9.N0", "logit:e", "attention:L1.H0:9"]
    done = sweep(tiny, features, SMALL, output=tmp_path, dreams_at_once=4, callback=told.append)
    assert (done.dreams, done.done, done.failed, done.stopped) == (9, 9, 2, "")
    rows = table(tmp_path)
    assert rows.columns.tolist() == SCHEMA.names
    assert rows["feature"].tolist() == features
    assert "0 to 2" in rows["error"][6], "no feature of the model, which was seen before any work"
    assert rows["error"][8].startswith("--feature=attention:L1.H0:9: "), "seen when its batch was built"
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
    assert told[-1].done == 9
    assert [one.done for one in told] == sorted(one.done for one in told)
    page = (tmp_path / "index.html").read_text()
    assert "9 of 9 dreams" in page
    assert f"dreams/000000/{NEURONS[0]}/report.html" in page
    assert [path.name for path in (tmp_path / CLAIMS).iterdir()] == ["layout.0"]


def test_a_sweep_that_was_stopped_goes_on_and_does_nothing_twice(tiny, tmp_path, monkeypatch):
    first = sweep(
        tiny, NEURONS, SMALL, output=tmp_path, dreams_at_once=2, reports=False, callback=lambda told: told.done == 2
    )
    assert (first.done, bool(first.stopped)) == (2, True)
    assert not list(tmp_path.rglob("report.html"))
    dreamt: list[list[str]] = []
    dream = run.dream

    def counted(lm: Any, features: list[str], *arguments: Any, **options: Any) -> Any:
        dreamt.append(features)
        return dream(lm, features, *arguments, **options)

    monkeypatch.setattr(run, "dream", counted)
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


def test_two_that_work_on_one_folder_share_the_batches(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SECONDS_PER_LOOK", 0.1)
    dreamt: list[tuple[str, ...]] = []
    dream = run.dream

    def counted(lm: Any, features: list[str], *arguments: Any, **options: Any) -> Any:
        dreamt.append(tuple(features))
        return dream(lm, features, *arguments, **options)

    monkeypatch.setattr(run, "dream", counted)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            sweep(tiny, NEURONS, SMALL, output=tmp_path, dreams_at_once=1, reports=False)
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=300)
    assert not failures
    assert sorted(dreamt) == sorted((name,) for name in NEURONS), "none by both"
    assert table(tmp_path)["feature"].tolist() == NEURONS


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
    given = [f"--model={tiny_folder}", "--features=L0:3.N0:8", "--kills=3", "--dreams_at_once=4", "--latest=3"]
    command = [sys.executable, ROOT / "scripts" / "check_sweep.py", *given, f"--output={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search("24 features, 3 kills: 24 rows, 0 missing, 0 doubled, 0 failed, 0 run folders", done.stdout)


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
