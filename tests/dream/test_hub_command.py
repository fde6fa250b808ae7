"""The command line with a model of the hub, whose library reads its settings when the program starts."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from hub_server import HubServer

import epo_jax
from epo_jax.dream.frontier import Frontier
from epo_jax.dream.history import History
from epo_jax.dream.result import Result
from epo_jax.dream.run import MODEL_COMMIT, Run

QUICK = [
    *("--preset=quick", "--iterations=1", "--population=2", "--children=2", "--length=4", "--top_k=30"),
    "--noattribution",
]


def run(server: HubServer, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process with a cache of its own."""
    settings = {"HF_ENDPOINT": server.url, "HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1,localhost"}
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, "-m", "epo_jax.dream", *arguments],
        cwd=folder,
        env=ours | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_revision_of_a_repository_is_dreamed_and_its_run_folder_names_the_command_and_the_commit(tmp_path):
    for seed in (0, 1):
        tiny_models.save(tmp_path / f"model{seed}", "llama", seed=seed)
    with HubServer().running() as server:
        server.add("owner/tiny", tmp_path / "model0")
        commit = server.add("owner/tiny", tmp_path / "model1", branch="step1000")
        ran = run(
            *(server, tmp_path, "--model=owner/tiny", "--revision=step1000", "--feature=L1.N5", *QUICK),
            "--output=first",
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        config = json.loads((tmp_path / "first" / "config.json").read_text())
        assert (config["model"], config["revision"]) == ("owner/tiny", "step1000")
        assert config["versions"]["model commit"] == commit
        assert "--model=owner/tiny --revision=step1000 " in config["command"]
    assert "owner/tiny at step1000" in (tmp_path / "first" / "report.html").read_text()


@pytest.mark.slow
def test_a_download_that_breaks_off_is_one_line_and_exit_code_2(tmp_path):
    tiny_models.save(tmp_path / "model", "llama")
    with HubServer().running() as server:
        server.add("owner/tiny", tmp_path / "model")
        server.cuts["model.safetensors"] = [50_000, *[0] * 20]
        ran = run(server, tmp_path, "--model=owner/tiny", "--feature=L1.N5", *QUICK, "--output=run")
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("epo_jax: error: --model=owner/tiny: the download of model.safetensors broke off")
    assert not (tmp_path / "run").exists()


def some_run(**changes: object) -> Run:
    search = epo_jax.EPOConfig(length=4)
    whole = Run("owner/tiny", "L1.N5", search, 0, "float32", "", "", "auto", None, {MODEL_COMMIT: "a"})
    return dataclasses.replace(whole, **changes)


def test_a_run_folder_of_before_there_were_revisions_is_read():
    values = some_run().to_json()
    del values["revision"]
    assert Run.from_json(values) == some_run()


def test_without_a_revision_the_command_has_none():
    assert "--revision" not in some_run().command
    assert "--revision=main --feature=L1.N5" in some_run(revision="main").command


def test_frontiers_of_different_commits_are_not_merged():
    one = np.ones(1, np.float32)
    frontier = Frontier(np.ones((1, 4), np.int32), ("a b",), (("a", " b"),), one, one, np.zeros(1, np.int32))
    history = History(np.ones((1, 4), np.int32), one, one, np.zeros(1, np.int32))
    first, second = (Result(frontier, history, some_run(versions={MODEL_COMMIT: name})) for name in "ab")
    assert len(epo_jax.merge_frontiers([first, first]).text) == 1
    with pytest.raises(epo_jax.EpoError, match="one model and commit"):
        epo_jax.merge_frontiers([first, second])
