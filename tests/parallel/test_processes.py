"""Several processes: who they are, what they agree on, and how they end together."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import numpy as np
import pytest
from jobs import ends, started

import epo_jax
from epo_jax import EpoError
from epo_jax.parallel import processes
from epo_jax.parallel.signs import BEAT, FAULT, LOST, SILENT, Ended, Signs
from epo_jax.parallel.startup import Place

TOGETHER = Path(__file__).with_name("together.py")
# What one process and several search alike.
SEARCH = [
    *("--feature=L1.N5", "--feature=L2.N7", "--preset=quick", "--iterations=12", "--population=3", "--children=4"),
    *("--length=4", "--top_k=30", "--restart_every=5", "--dtype=float32", "--compilation_cache_dir="),
]


def test_one_process_is_the_writer_and_agrees_with_itself():
    assert processes.is_writer()
    assert (processes.count(), processes.index()) == (1, 0)
    processes.barrier("here")
    assert processes.gathered((1, 2)) == [(1, 2)]
    assert processes.agreed("a") == "a"
    assert processes.agreed_bytes(b"abc") == b"abc"
    assert processes.on_writer(lambda: 7) == 7


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("10.0.0.2:1", 2, None), r"^--distributed: --process_id not given"),
        ((None, None, 1), r"^--distributed: --coordinator and --process_count not given"),
        (("10.0.0.2", 2, 0), r"^--coordinator=10.0.0.2: not of the form HOST:PORT"),
        (("host:70000", 2, 0), r"^--coordinator=host:70000: "),
        (("host:1", 0, 0), r"^--process_count=0: must be at least 1"),
        (("host:1", 2, 2), r"^--process_id=2: must be 0 to 1"),
    ],
)
def test_settings_that_are_half_given_or_cannot_be_are_refused_in_one_line(given, told):
    with pytest.raises(EpoError, match=told) as caught:
        Place(*given)
    assert "\n" not in str(caught.value)


def test_who_told_the_place_is_said(monkeypatch):
    assert Place("host:1", 2, 0).told_by == "flags"
    assert Place().told_by == "this machine's environment"
    for name in ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID"):
        monkeypatch.setenv(f"SLURM_{name}", "1")
    assert Place().told_by == "SLURM"


def beats(now: float, *numbers: int) -> dict[int, str]:
    return dict.fromkeys(numbers, str(now))


def test_a_process_that_gives_no_sign_of_life_is_lost_and_not_before():
    signs = Signs(3, 0.0)
    assert signs.verdict(beats(0, 0, 1, 2), {}, 0.0) is None
    almost = {**beats(1, 0, 1), 2: "0"}
    assert signs.verdict(almost, {}, SILENT - 1) is None
    verdict = signs.verdict({**beats(2, 0, 1), 2: "0"}, {}, SILENT + 1)
    assert (verdict.code, verdict.gone) == (LOST, (2,))
    assert verdict.said.startswith("process 2 of 3 has ended without a word")
    assert "--resume" in verdict.said


def test_what_a_process_says_ends_the_job_at_once_but_a_fault_waits_for_who_caused_it():
    refused = Ended(2, "--model=x: is not there")
    assert Signs(3, 0.0).verdict(beats(0, 0, 1, 2), {1: refused}, 0.0) == refused
    fault, signs = Ended(FAULT, "connection closed"), Signs(3, 0.0)
    assert signs.verdict(beats(0, 0, 1, 2), {0: fault}, 0.0) is None
    verdict = signs.verdict({**beats(1, 1), 2: "0"}, {0: fault}, SILENT + 1)
    assert (verdict.code, verdict.gone) == (LOST, (2,)), "who is silent is the cause"
    signs = Signs(2, 0.0)
    assert signs.verdict(beats(0, 0, 1), {0: fault, 1: fault}, 0.0) == fault, "all met it: nobody is lost"
    signs = Signs(2, 0.0)
    for now in np.arange(0.0, SILENT + 2 * BEAT, BEAT):
        assert signs.verdict(beats(now, 0, 1), {0: fault}, now) is None
    assert signs.verdict(beats(99, 0, 1), {0: fault}, SILENT + 2 * BEAT) == fault, "the other one never noticed"


def test_importing_a_command_line_starts_no_backend():
    code = (
        "from epo_jax.dream import __main__\nfrom jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_flags_of_a_job_are_refused_without_distributed(capsys, tiny_folder, tmp_path):
    from dream_command import run

    given = [f"--model={tiny_folder}", f"--output={tmp_path / 'run'}", "--process_id=1"]
    assert run(*given) == 2
    assert "--process_id=1: is about a job of several processes; give --distributed" in capsys.readouterr().err


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_exchange_values_and_arrays(count):
    for code, out, error in ends(started(count, [str(TOGETHER), "exchange"], devices=2), 120):
        assert code == 0, error
        assert out.splitlines()[-1] == "agreed"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["refused", "apart"])
def test_what_one_process_refuses_ends_all_with_one_line_on_the_first(what):
    (first, _, told), (second, _, other) = ends(started(2, [str(TOGETHER), what]), 60)
    assert (first, second) == (2, 2), (told, other)
    assert told.count("\n") == 1
    assert ("process 1 of 2" if what == "refused" else "--seed: is '1' on process 1") in told


@pytest.mark.slow
@pytest.mark.parametrize(("count", "killed"), [(2, 0), (4, 2)])
def test_processes_end_within_a_minute_with_a_clear_line_when_one_is_killed(count, killed):
    running = started(count, [str(TOGETHER), "endless"])
    for process in running:
        for line in process.stdout:
            if line.startswith("running"):
                break
    running[killed].send_signal(signal.SIGKILL)
    since = time.monotonic()
    found = ends(running, 90)
    assert time.monotonic() - since < 60
    for number, (code, _, error) in enumerate(found):
        if number == killed:
            assert code == -signal.SIGKILL
            continue
        assert code == LOST, error
        last = error.rstrip().splitlines()[-1]
        assert re.search(rf"process {killed}( of {count} has ended|, which all need)", last), error
        assert "--resume" in last


@pytest.mark.slow
def test_several_processes_give_what_one_gives_also_after_one_was_killed_and_files_are_written_once(
    tiny_folder, tmp_path
):
    command = ["-m", "epo_jax.dream", f"--model={tiny_folder}", *SEARCH, "--iterations=24", "--checkpoint_every=0"]
    assert commands.run([*command, f"--output={tmp_path / 'one'}"]).returncode == 0
    check_written_by_the_first(ends(started(4, [*command, f"--output={tmp_path / 'four'}"]), 400))
    command.append(f"--output={tmp_path / 'two'}")
    killed = started(2, command, devices=2)
    whole = "two/checkpoints/*/commit_success.txt"
    while killed[0].returncode is None and not any(path.parent.name.isdigit() for path in tmp_path.glob(whole)):
        time.sleep(0.01)
    killed[1].send_signal(signal.SIGKILL)
    assert [code for code, *_ in ends(killed, 90)] == [LOST, -signal.SIGKILL]
    assert [*tmp_path.glob("two/checkpoints/*")]
    check_written_by_the_first(ends(started(2, [*command, "--resume"], devices=2), 400))
    for name in ("L1.N5", "L2.N7"):
        results = [epo_jax.load_result(tmp_path / folder / name) for folder in ("one", "four", "two")]
        goes_on, *elsewhere = (
            dict(zip(map(bytes, result.frontier.ids), result.frontier.continuation, strict=True)) for result in results
        )
        for many in elsewhere:
            assert many == goes_on
        one, *others = (result.history for result in results)
        for many in others:
            assert np.array_equal(one.ids, many.ids)
            assert np.abs(one.feature - many.feature).max() < 1e-4
            assert np.abs(one.cross_entropy - many.cross_entropy).max() < 1e-4
        one, *others = (
            sorted(p.name for p in (tmp_path / folder / name).iterdir()) for folder in ("one", "four", "two")
        )
        assert others == [one, one]


def check_written_by_the_first(found: list[tuple[int, str, str]]) -> None:
    for number, (code, out, error) in enumerate(found):
        assert code == 0, error
        assert ("dreams in one program" in out) == (number == 0), "the first one alone prints"
