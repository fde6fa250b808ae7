from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_resume.py"


@pytest.mark.slow
def test_runs_that_are_killed_and_gone_on_with_have_the_history_of_the_unbroken_one(tiny_folder):
    given = [f"--model={tiny_folder}", "--runs=2", "--most_kills=2", "--iterations=1500", "--dream=length=5"]
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), *given, "--dream=top_k=40"],
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    assert "2 of 2 runs have the history of the unbroken run" in ran.stdout
