"""The command, ended from outside and gone on with."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from dream_command import QUICK, run

import epo_jax

pytestmark = pytest.mark.slow


def test_sigterm_saves_and_ends_with_a_code_of_its_own_and_resume_goes_on(tiny_folder, tmp_path, capsys):
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, "--iterations=3000", "--noattribution"]
    output = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "epo_jax.dream", *given, f"--output={output}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("iteration"):
            break
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "--resume" in error
    assert "Traceback" not in error
    assert [path.name for path in output.iterdir()] == ["checkpoints"], "no results, and no lock"
    assert run(*given, f"--output={output}", "--resume") == 0
    assert capsys.readouterr().err == ""
    assert run(*given, f"--output={tmp_path / 'whole'}") == 0
    histories = [(folder / "history.npz").read_bytes() for folder in (output, tmp_path / "whole")]
    assert histories[0] == histories[1]
    assert epo_jax.load_result(output).history.iteration[-1] == 3000


def test_resume_without_a_folder_or_of_another_run_is_one_line(tiny_folder, tmp_path, capsys):
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK]
    assert run(*given, "--resume") == 2
    assert "--output" in capsys.readouterr().err
    assert run(*given, f"--output={tmp_path}") == 0
    capsys.readouterr()
    assert run(*given, f"--output={tmp_path}", "--resume", "--seed=1") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "seed 0 (now 1)" in error
