from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from commands import Command
from dream_command import QUICK, run

import epo_jax
from epo_jax.config import SearchOptions
from epo_jax.dream import history as histories


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
        (["--seed=many"], "--seed=many", "0:60"),
        (["--seed=3:3"], "--seed=3:3", "empty"),
        (["--feature=L1.N5:5"], "--feature=L1.N5:5", "empty"),
        (["--feature=L1.N50:60"], "--feature=L1.N53", "0 to 52"),
        (["--feature=logit:e"], "--feature", "one kind"),
        (["--read=first"], "--read=first", "max"),
        (["--read=4"], "--read=4", "0 to 3"),
        (["--micro_batch=0"], "--micro_batch=0", "at least 1"),
        (["--mesh=data:2"], "--mesh=data:2", "there is 1"),
        (["--mesh=rows:2"], "--mesh=rows:2", "only data, model"),
        (["--mesh=8"], "--mesh=8", "data:8"),
        (["--compilation_cache_dir=/dev/null"], "--compilation_cache_dir=/dev/null", "switch it off"),
        (["--dtype=int8"], "dtype", "float32"),
        (["--preset=slow"], "preset", "quick"),
        (["--bos=maybe"], "bos", "auto"),
        (["--template=no place"], "--template=no place", "{prompt} 0 times"),
        (["--template=a {prompt}", "--prefix=b"], "--template=a {prompt}", "leave out --prefix"),
        (["--system=You are terse."], "--system=You are terse.", "--chat"),
        (["--chat"], "--chat", "no chat template; use --template"),
        (["--init=text"], "init", "model"),
        (["--init=model", "--init_text=abcd"], "--init=model and --init_text", "give one"),
        (["--init_file=/nonexistent.txt"], "--init_file=/nonexistent.txt", "cannot be read"),
        (["--search=other"], "search", "paper"),
        (["--noise=1"], "--noise", "use --search=best"),
        (["--search=best", "--operators=model_swap:1,swap:1"], "'swap'", "gradient_swap"),
        (["--search=best", "--operators=swap", "--model=nonsense"], "--operators=swap", "gradient_swap"),
        (["--search=best", "--operators=model_swap:a"], "--operators=model_swap:a", "name:share"),
        (["--search=best", "--operators=deletion,deletion:2"], "--operators=deletion", "twice"),
        (["--search=best", "--positions=first"], "positions", "success"),
        (["--search=best", "--penalties=none"], "penalties", "frontier"),
        (["--search=best", "--noise=0"], "--noise=0", "above 0"),
        (["--search=best", "--oversample=0"], "--oversample=0", "at least 1"),
        (["--search=best", "--archive=maybe"], "archive", "--help"),
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
    tiny_folder, tmp_path, capfd
):
    given = [f"--model={tiny_folder}", "--feature=logit:$", *QUICK, "--suffix= $x", "--output=first run", "--read=-2"]
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
    capfd.readouterr()
    assert run(*words[3:], f"--output={tmp_path / 'second'}") == 0
    assert capfd.readouterr().err == "", "what the first run compiled is taken from the cache without a word"
    second = epo_jax.load_result(tmp_path / "second")
    files = [folder / "history.npz" for folder in (tmp_path / "first run", tmp_path / "second")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert (second.run.suffix, second.run.read) == (" $x", "-2")
    assert second.run.command == first.run.command


def test_every_setting_of_a_guided_search_is_a_flag_and_its_command_repeats_it(tiny_folder, tmp_path, capsys):
    settings = {
        "operators": "model_swap:2,gradient_swap:1",
        "adaptation": "0.5",
        "oversample": "2",
        "noise": "0.25",
        "positions": "gradient",
        "penalties": "given",
        "distinct": "false",
        "archive": "false",
        "fragments": "true",
        "repetition": "0.5",
        "least_length": "2",
        "kept_first": "9",
        "kept_last": "7",
        "momentum": "0.5",
        "model_starts": "5",
        "random_starts": "6",
        "beam": "false",
        "beginnings": "2",
        "merging": "0.5",
        "diversity": "0.25",
    }
    assert list(settings) == [field.name for field in dataclasses.fields(SearchOptions)]
    flags = [f"--{name}={value}" for name, value in {"search": "best", **settings}.items()]
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, *flags, "--noattribution", "--nocontinuation"]
    assert run(*given, f"--output={tmp_path / 'first'}") == 0
    first = epo_jax.load_result(tmp_path / "first")
    told = json.loads((tmp_path / "first" / "config.json").read_text())["search"]
    assert {name: str(told[name]).lower() for name in settings} == settings
    words = shlex.split(first.run.command)
    assert set(flags) <= set(words)
    assert run(*words[3:], f"--output={tmp_path / 'second'}") == 0
    assert capsys.readouterr().err == ""
    second = epo_jax.load_result(tmp_path / "second")
    assert second.run.search == first.run.search
    assert second.history.ids.tobytes() == first.history.ids.tobytes()


def test_ranges_and_repeated_flags_dream_every_feature_with_every_seed_in_folders_of_their_own(
    tiny_folder, tmp_path, capsys
):
    output = tmp_path / "run"
    given = [f"--model={tiny_folder}", *QUICK, "--feature=L1.N5:7", "--feature=L0:2.N6", "--seed=3", "--seed=0:2"]
    assert run(*given, f"--output={output}") == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "9 dreams in one program" in told.out
    # L1.N6 is named twice and dreamed once.
    names = [f"{feature}-seed{seed}" for feature in ("L1.N5", "L1.N6", "L0.N6") for seed in (3, 0, 1)]
    assert sorted(path.name for path in output.iterdir()) == sorted(names)
    lines = told.out.splitlines()
    for name in names:
        kept = epo_jax.load_result(output / name)
        line = next(line for line in lines if name in line)
        assert f"{kept.history.feature.max():.3f}" in line
        fluent = kept.history.feature[kept.history.cross_entropy < 6]
        assert (f"{fluent.max():.3f}" if len(fluent) else "none") in line
        assert (output / name / "report.html").exists()
    assert f"{output}/*/report.html" in told.out.replace("\n", "")
    # Each folder's command repeats that dream alone.
    words = shlex.split(epo_jax.load_result(output / "L1.N6-seed1").run.command)
    assert run(*words[3:], f"--output={tmp_path / 'alone'}") == 0
    histories = [epo_jax.load_result(folder).history for folder in (output / "L1.N6-seed1", tmp_path / "alone")]
    assert histories[0].ids.tobytes() == histories[1].ids.tobytes()


def test_one_of_several_dreams_that_is_not_finite_is_an_error_after_all_are_written_and_listed(
    tiny_folder, tmp_path, capsys, monkeypatch
):
    fetch = histories.of_infos

    def spoilt(*arguments: Any) -> histories.Chunk:
        chunk = fetch(*arguments)
        chunk.feature[:, 4] = np.nan
        return chunk

    monkeypatch.setattr(histories, "of_infos", spoilt)
    output = tmp_path / "run"
    given = [f"--model={tiny_folder}", *QUICK, "--feature=L1.N0:3", "--seed=0:3", f"--output={output}"]
    assert run(*given) == 2
    told = capsys.readouterr()
    assert told.err.startswith("epo_jax: error: --feature=L1.N1: not finite at iteration 1 ")
    assert told.err.count("\n") == 1
    for feature, seed in itertools.product(("L1.N0", "L1.N1", "L1.N2"), range(3)):
        name = f"{feature}-seed{seed}"
        assert name in told.out
        kept = epo_jax.load_result(output / name)
        assert kept.history.iteration[-1] == (1 if name == "L1.N1-seed1" else 2)


def test_a_mesh_of_one_device_and_a_profile_are_named_and_recorded(tiny_folder, tmp_path, capsys):
    output = tmp_path / "run"
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, f"--output={output}"]
    assert run(*given, "--mesh=data:1", "--micro_batch=1", f"--profile_dir={tmp_path / 'profile'}") == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert f"{tmp_path / 'profile'}" in told.out.replace("\n", "")
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    config = json.loads((output / "config.json").read_text())
    assert (config["mesh"], config["micro_batch"]) == ("data:1", 64)
    assert {"--mesh=data:1", "--micro_batch=64"} <= set(shlex.split(config["command"]))


def test_compiled_programs_are_kept_in_the_users_cache_unless_that_is_switched_off(tiny_folder, tmp_path, monkeypatch):
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, f"--output={tmp_path / 'run'}", "--overwrite"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(*given, "--compilation_cache_dir=") == 0
    assert not (tmp_path / "cache").exists()
    assert run(*given) == 0
    assert (tmp_path / "cache" / "epo_jax").is_dir()


def test_ctrl_c_ends_the_run_and_still_writes_everything_found_so_far(tiny_folder, tmp_path):
    output = tmp_path / "run"
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, "--iterations=1000000", f"--output={output}"]
    process = Command(["-m", "epo_jax.dream", *given])
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


def test_the_mesh_that_was_chosen_is_told(tiny_folder, tmp_path, capsys):
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK]
    assert run(*given, f"--output={tmp_path / 'asked'}", "--mesh=data:1") == 0
    assert "mesh data:1" not in capsys.readouterr().out
    assert run(*given, f"--output={tmp_path / 'chosen'}", "--mesh=auto") == 0
    assert "mesh data:1" in capsys.readouterr().out
