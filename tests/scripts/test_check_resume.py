from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_resume.py"


@pytest.mark.slow
def test_runs_that_are_killed_and_gone_on_with_have_the_history_of_the_unbroken_one(tiny_folder, tmp_path):
    given = [f"--model={tiny_folder}", "--feature=L1.N5", "--noattribution", "--nocontinuation"]
    given += ["--runs=1", "--most_kills=2", "--draw=0"]
    sizes = ["--iterations=800", "--population=2", "--children=4", "--length=5", "--top_k=40"]
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), *given, *sizes],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    assert "1 of 1 runs have the history of the unbroken run" in ran.stdout
