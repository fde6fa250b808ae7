"""Reports are written anew by a command, with an index page over them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import commands
import pandas as pd
import pytest
from made_results import made

import epo_jax
from epo_jax import EPOConfig
from epo_jax.dream.folders import runs_below
from epo_jax.sweep import sweep

SCRIPT = Path(__file__).parents[2] / "scripts" / "report.py"
CONFIG = EPOConfig(iterations=3, population=2, children=3, length=5, top_k=40)


def command(*given: str) -> subprocess.CompletedProcess[str]:
    return commands.run([SCRIPT, *given])


@pytest.fixture
def runs(tiny, tmp_path) -> Path:
    """Two runs as older versions left them, and a sweep without reports."""
    folder = tmp_path / "runs"
    for name in ("a/L0.N3", "b b"):
        made(tiny, "L0.N3", seed=len(name)).save(folder / name, report=False)
        (folder / name / "tokens.json").unlink()
    sweep(tiny, ["L1.N5", "L1.N6"], CONFIG, output=folder / "swept", reports=False)
    return folder


def test_a_folder_of_runs_gets_pages_texts_and_an_index(runs) -> None:
    ran = command(f"--runs={runs}", "--parquet", "--continuation")
    assert ran.returncode == 0, ran.stderr
    assert "4 runs" in ran.stdout
    result = epo_jax.load_result(runs / "b b")
    assert result.token_texts
    assert result.frontier.continuation
    assert len(pd.read_parquet(runs / "b b" / "history.parquet")) == len(result.history)
    assert (runs / "a" / "L0.N3" / "report.html").exists()
    page = (runs / "index.html").read_text("utf-8")
    rows = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    assert [row[1] for row in rows] == ["L0.N3", "L0.N3", "L1.N5", "L1.N6"]
    assert [row[-1] for row in rows[:2]] == ["a/L0.N3/report.html", "b%20b/report.html"]
    assert rows[1][3] == pytest.approx(float(result.history.feature.max()), rel=1e-5)
    assert "Runs" in page
    # The sweep's own page has links now.
    swept = (runs / "swept" / "index.html").read_text("utf-8")
    assert "L1.N5/report.html" in swept


def test_a_folder_without_runs_is_told(tmp_path) -> None:
    with pytest.raises(epo_jax.EpoError, match=r"^--runs=.*: holds no run$"):
        runs_below(tmp_path, "runs")
