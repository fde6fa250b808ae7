"""The command, ended from outside and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Command
from dream_command import QUICK, run

import epo_jax

FULL_DISK = Path(__file__).with_name("full_disk.py")

pytestmark = pytest.mark.slow


def ended_by(number: signal.Signals, *given: str) -> tuple[int, str, int]:
    """The exit code and stderr of the command, which is sent a signal when it searches, and its process."""
    process = Command(["-m", "epo_jax.dream", *given])
    for line in process.stdout:
        if line.startswith("iteration"):
            break
    # Meanwhile nobody else can go on with it.
    assert run(*given) == 2
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert "Traceback" not in error
    return process.returncode, error, process.pid


def test_ctrl_c_and_sigterm_save_and_end_with_codes_of_their_own_and_resume_goes_on(tiny_folder, tmp_path, capsys):
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, "--iterations=6000", "--noattribution"]
    output = tmp_path / "run"
    here = [*given, f"--output={output}", "--resume"]
    assert run(*given, f"--output={tmp_path / 'whole'}") == 0
    capsys.readouterr()
    code, error, process = ended_by(signal.SIGTERM, *here)
    assert code == 75
    assert f"terminated; the same command with --output={output} and --resume goes on" in error
    assert [path.name for path in output.iterdir()] == ["checkpoints"], "no results, and no lock"
    refused = capsys.readouterr().err
    assert refused.count("\n") == 1
    assert f"another run is at work there (process {process} on " in refused
    code, error, _ = ended_by(signal.SIGINT, *here)
    assert code == 130
    assert f"everything found so far is in {output}, and --resume goes on" in error
    partly = epo_jax.load_result(output)
    assert partly.run.stopped == f"interrupted after iteration {partly.history.iteration[-1]}"
    capsys.readouterr()
    assert run(*here) == 0
    assert capsys.readouterr().err == ""
    histories = [(folder / "history.npz").read_bytes() for folder in (output, tmp_path / "whole")]
    assert histories[0] == histories[1]
    assert epo_jax.load_result(output).history.iteration[-1] == 6000


def test_a_disk_that_is_full_or_cannot_be_written_is_one_line_and_the_run_goes_on_when_that_is_over(tiny_folder):
    # A disk of its own, which root may mount, and elsewhere everybody in a name space of users.
    own = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        can = subprocess.run(
            [*own, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if can.returncode:
        pytest.skip(f"this machine mounts nothing: {can.stderr.decode().strip()}")
    command = [*own, sys.executable, str(FULL_DISK), str(tiny_folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr


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
