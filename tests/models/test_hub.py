"""Models by hub id: the real hub library against a server on loopback."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import huggingface_hub
import pytest
from hub_models import ID, assert_same, load, partials, refusal, shards
from hub_server import TOKEN
from huggingface_hub import constants
from spoiling import INDEX, WEIGHTS

from epo_jax.models.hub_id import HubId, parse_hub_id


def test_a_repository_loads_as_its_folder_does_and_only_what_it_needs_is_fetched_and_once(hub, sharded_repo):
    commit = hub.add(ID, sharded_repo)
    lm = load()
    assert_same(lm, sharded_repo)
    assert (lm.source, lm.revision, lm.commit) == (ID, None, commit)
    settings = ["config.json", "tokenizer.json", "tokenizer_config.json", INDEX]
    assert sorted(hub.files()) == sorted([*settings, *shards(sharded_repo)])
    hub.asked.clear()
    assert_same(load(), sharded_repo)
    assert hub.files() == []


def test_a_commit_that_is_in_the_cache_is_loaded_without_a_question(hub, repo):
    commit = hub.add(ID, repo)
    load()
    hub.asked.clear()
    lm = load(revision=commit)
    assert (lm.revision, lm.commit) == (commit, commit)
    assert hub.asked == []


def test_other_programs_find_what_was_fetched_in_the_librarys_cache(hub, repo, tmp_path):
    commit = hub.add(ID, repo)
    load()
    cached = huggingface_hub.try_to_load_from_cache(ID, WEIGHTS)
    assert Path(str(cached)).read_bytes() == (repo / WEIGHTS).read_bytes()
    found = huggingface_hub.snapshot_download(ID, endpoint=hub.url, local_files_only=True)
    assert Path(found) == tmp_path / "cache" / "models--owner--tiny" / "snapshots" / commit
    assert partials(tmp_path) == []


def test_revisions_are_different_models(hub, sharded_repo, repo):
    first, second = hub.add(ID, sharded_repo), hub.add(ID, repo, branch="step1000")
    lm = load(revision="step1000")
    assert_same(lm, repo)
    assert (lm.source, lm.revision, lm.commit) == (ID, "step1000", second)
    assert_same(load(), sharded_repo)
    assert_same(load(revision=first), sharded_repo)
    assert_same(load(revision="main"), sharded_repo)


def test_a_branch_that_moved_is_fetched_again(hub, sharded_repo, repo):
    hub.add(ID, sharded_repo)
    load()
    second = hub.add(ID, repo)
    lm = load()
    assert lm.commit == second
    assert_same(lm, repo)


def test_a_folder_here_is_taken_before_the_hub(hub, sharded_repo, repo, tmp_path, monkeypatch):
    hub.add(ID, sharded_repo)
    shutil.copytree(repo, tmp_path / ID)
    monkeypatch.chdir(tmp_path)
    assert_same(load(), repo)
    assert hub.asked == []


def test_a_private_model_loads_with_a_token_that_the_storage_never_sees(hub, repo, monkeypatch):
    hub.add(ID, repo)
    hub.repos[ID].private = True
    message = refusal()
    assert "misspelt, or private: log in with `hf auth login`" in message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert_same(load(), repo)
    assert {one.token for one in hub.asked if one.storage} == {None}
    monkeypatch.setenv("HF_TOKEN", "hf_of_someone_else")
    assert "the token that is set may not read it" in refusal()


def test_a_bare_name_of_old_times_loads(hub, repo):
    hub.add("tiny", repo)
    lm = load("tiny")
    assert_same(lm, repo)
    assert lm.source == "tiny"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_that_is_unwell_is_one_line_and_what_is_in_the_cache_is_used_with_a_warning(status, hub, repo, caplog):
    commit = hub.add(ID, repo)
    hub.status = status
    message = refusal()
    assert f"{hub.url} answered {status}" in message
    assert "no copy of it in the cache" in message
    hub.status = 0
    load()
    hub.status = status
    caplog.clear()
    assert load().commit == commit
    [warning] = [record.getMessage() for record in caplog.records if record.name.startswith("epo_jax")]
    assert f"answered {status}" in warning
    assert commit in warning


def test_no_network_is_one_line_and_what_is_in_the_cache_is_used(hub, repo, monkeypatch):
    commit = hub.add(ID, repo)
    load()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert load().commit == commit
        message = refusal("owner/other")
    assert "cannot be reached (" in message
    assert "no copy of it in the cache" in message


def test_offline_the_cache_is_used_and_nothing_is_asked(hub, sharded_repo, monkeypatch, caplog):
    commit = hub.add(ID, sharded_repo)
    load()
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    lm = load()
    assert lm.commit == commit
    assert_same(lm, sharded_repo)
    assert not [record for record in caplog.records if record.name.startswith("epo_jax")]
    message = refusal("owner/other")
    assert "HF_HUB_OFFLINE is set" in message
    assert "no copy of it in the cache" in message
    assert "no copy of it in the cache" in refusal(revision="step7")
    assert hub.asked == []


@pytest.mark.slow
def test_a_gguf_file_of_a_repository_loads(hub, embedded_gguf, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "model.gguf").symlink_to(embedded_gguf)
    commit = hub.add("owner/tiny-GGUF", tmp_path / "repo")
    lm = load("owner/tiny-GGUF/model.gguf")
    assert (lm.source, lm.commit, lm.config.layers) == ("owner/tiny-GGUF/model.gguf", commit, 30)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EleutherAI/pythia-70m", HubId("EleutherAI/pythia-70m")),
        ("gpt2", HubId("gpt2")),
        ("a/b.gguf", None),
        ("a/b/c.gguf", HubId("a/b", "c.gguf")),
        ("a/b/c/d.gguf", HubId("a/b", "c/d.gguf")),
        ("a/b/../c.gguf", None),
        ("model.gguf", None),
        ("a/b/c", None),
        ("/a/b", None),
        ("./b", None),
        ("../b", None),
        ("~/b", None),
        ("a--b/c", None),
        ("a/b c", None),
        ("a/b\n", None),
        ("random:a", None),
        ("", None),
    ],
)
def test_names_of_the_hub_are_told_from_paths(name, expected):
    assert parse_hub_id(name) == expected
