from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time

import pytest
from absl import flags

import epo_jax
from epo_jax.dream import __main__ as command

QUICK = ["--preset=quick", "--iterations=2", "--population=2", "--children=2", "--length=4", "--top_k=30"]


def run(*arguments: str) -> int:
    """Exit code of the command, in this process."""
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    try:
        command.main(command._parse_flags(["dream", *arguments]))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize(
    ("arguments", "named", "right"),
    [
        (["--model=nonsense"], "--model=nonsense", "smollm2-135m"),
        (["--feature=L3.N1"], "--feature=L3.N1", "0 to 2"),
        (["--feature=L1.N53"], "--feature=L1.N53", "0 to 52"),
        (["--feature=nonsense"], "--feature=nonsense", "L10.N5"),
        (["--feature=logit:the lazy"], "--feature=logit:the lazy", "'t', 'he', ' ', 'laz', 'y'"),
        (["--feature=logit:"], "--feature=logit:", "one token"),
        (["--top_k=308"], "--top_k=308", "307"),
        (["--population=0"], "--population=0", "at least 1"),
        (["--children=0"], "--children=0", "at least 1"),
        (["--length=0"], "--length=0", "at least 1"),
        (["--iterations=0"], "--iterations=0", "at least 1"),
        (["--length=1"], "--length=1", "--prefix"),
        (["--length=100"], "--length=100", "64"),
        (["--lambda_min=2", "--lambda_max=1"], "--lambda_min=2", "--lambda_max=1"),
        (["--init_text=quick brown fox"], "--init_text=quick brown fox", "--length is 4"),
        (["--seed=-1"], "--seed=-1", "0 to"),
        (["--dtype=int8"], "dtype", "float32"),
        (["--preset=slow"], "preset", "quick"),
        (["--bos=maybe"], "bos", "auto"),
        (["--nonsense=1"], "nonsense", "--help"),
        (["--iterations=many"], "--iterations=many", "--help"),
        (["stray"], "stray", "--name=value"),
    ],
)
def test_bad_input_is_one_line_that_says_what_would_be_right_and_exit_code_2(
    tiny_folder, tmp_path, capsys, arguments, named, right
):
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, f"--output={tmp_path / 'run'}", *arguments]
    assert run(*given) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert named in error
    assert right in error
    assert not (tmp_path / "run").exists(), "nothing is left behind"


def test_an_output_folder_that_is_not_empty_is_refused_unless_overwritten(tiny_folder, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, f"--output={tmp_path}"]
    assert run(*given) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(*given, "--overwrite") == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "report.html").exists()
    assert run(f"--model={tiny_folder}", *QUICK, f"--output={tmp_path / 'notes.txt'}") == 2
    assert "is a file" in capsys.readouterr().err


def test_a_flag_that_is_given_wins_over_the_preset_and_a_cpu_says_that_it_takes_quick(tiny_folder, tmp_path, capsys):
    output = tmp_path / "run"
    given = [f"--model={tiny_folder}", "--feature=L1.N5", "--iterations=2", "--length=4", "--top_k=30"]
    assert run(*given, f"--output={output}") == 0
    assert "quick" in capsys.readouterr().out
    search = json.loads((output / "config.json").read_text())["search"]
    assert (search["iterations"], search["children"], search["population"]) == (2, 8, 8)


def test_the_command_prints_the_frontier_and_the_folder_and_its_config_names_a_command_that_repeats_it(
    tiny_folder, tmp_path
):
    given = [f"--model={tiny_folder}", "--feature=logit:$", *QUICK, "--suffix= $x", "--output=first run"]
    ran = subprocess.run(
        [sys.executable, "-m", "epo_jax.dream", *given],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert "first run/report.html" in ran.stdout
    assert ran.stderr == ""
    first = epo_jax.load_result(tmp_path / "first run")
    for value in first.frontier.cross_entropy:
        assert f"{value:.2f}" in ran.stdout
    words = shlex.split(first.run.command)
    assert words[:3] == ["python", "-m", "epo_jax.dream"]
    assert run(*words[3:], f"--output={tmp_path / 'second'}") == 0
    second = epo_jax.load_result(tmp_path / "second")
    files = [folder / "history.npz" for folder in (tmp_path / "first run", tmp_path / "second")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert second.run.suffix == " $x"


def test_ctrl_c_ends_the_run_and_still_writes_everything_found_so_far(tiny_folder, tmp_path):
    output = tmp_path / "run"
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, "--iterations=1000000", f"--output={output}"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "epo_jax.dream", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("iteration"):
            break
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert "interrupted after iteration" in error
    kept = epo_jax.load_result(output)
    assert len(kept.history) > 2
    assert len(kept.history) == 2 + 4 * kept.history.iteration[-1], "whole iterations"
    assert "interrupted" in (output / "report.html").read_text()
