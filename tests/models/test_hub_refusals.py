"""What the hub does not have, or does not give, is refused in one line."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import huggingface_hub
import pytest
from hub_models import ID, load, refusal, shards
from hub_server import TOKEN
from huggingface_hub import constants
from spoiling import INDEX, WEIGHTS, change_config


def test_an_unknown_revision_is_refused(hub, repo):
    hub.add(ID, repo)
    message = refusal(revision="step7")
    assert message.startswith("--revision=step7: owner/tiny has no such branch, tag or commit")


@pytest.mark.parametrize("name", ["smollm2-135m", "random:pythia-70m", "FOLDER", "no/such/folder", "./no-such-folder"])
def test_a_revision_of_what_is_not_on_the_hub_is_refused(name, repo):
    message = refusal(str(repo) if name == "FOLDER" else name, "main")
    assert message.startswith("--revision=main: only models of the Hugging Face hub have revisions")


def test_an_empty_revision_is_refused(hub):
    assert refusal(revision=" ").startswith("--revision= : empty")


@pytest.mark.parametrize("gated", ["files", "all"])
@pytest.mark.parametrize("token", [None, "hf_of_someone_else"])
def test_a_gated_model_is_refused_with_where_its_licence_is_and_how_to_log_in(gated, token, hub, repo, monkeypatch):
    hub.add(ID, repo)
    hub.repos[ID].gated = gated
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    message = refusal()
    assert message.startswith(f"--model={ID}: ")
    assert f"accept its licence at https://huggingface.co/{ID}" in message
    assert "hf auth login" in message
    assert "HF_TOKEN" in message
    assert WEIGHTS not in hub.files()


@pytest.mark.parametrize("name", ["owner/other", "gpt3", "owner/other/model.gguf"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_name_that_the_hub_does_not_know_is_refused_with_what_is_known(name, token, hub, monkeypatch):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    message = refusal(name)
    assert message.startswith(f"--model={name}: ")
    assert hub.url in message
    assert "misspelt" in message
    assert "smollm2-135m" in message


def test_an_answer_that_is_not_understood_is_refused(hub):
    hub.status = 418
    assert f"{hub.url} answered 418" in refusal()
    hub.status, hub.text = 0, "<html>Welcome</html>"
    assert f"the answer of {hub.url} is not a hub's" in refusal()
    hub.text = "[]"
    assert f"the answer of {hub.url} is not a hub's" in refusal()


def test_an_address_that_is_none_is_refused(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    assert refusal().startswith("HF_ENDPOINT=huggingface.co: ")


def test_a_hub_that_does_not_answer_in_time_is_one_line(hub, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
        assert "cannot be reached (" in refusal()


def test_offline_a_copy_that_is_not_whole_is_refused_with_what_it_lacks(hub, sharded_repo, monkeypatch):
    hub.add(ID, sharded_repo)
    load()
    first = shards(sharded_repo)[0]
    Path(str(huggingface_hub.try_to_load_from_cache(ID, first))).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert f"its copy in the cache lacks {first}" in refusal()


def test_files_that_the_index_names_and_the_repository_lacks_are_named_before_any_weights_are_fetched(
    hub, sharded_repo, tmp_path
):
    folder = Path(shutil.copytree(sharded_repo, tmp_path / "repo"))
    lost = shards(folder)[1]
    (folder / lost).unlink()
    hub.add(ID, folder)
    message = refusal()
    assert message.startswith(f"--model={ID}: ")
    assert f"lacks: {lost}" in message
    assert not set(hub.files()) & set(shards(sharded_repo))


def test_a_file_that_is_listed_and_not_there_is_refused(hub, sharded_repo, tmp_path):
    folder = Path(shutil.copytree(sharded_repo, tmp_path / "repo"))
    lost = shards(folder)[1]
    (folder / lost).unlink()
    hub.absent.add(lost)
    hub.add(ID, folder)
    assert refusal() == f"--model={ID}: {ID} has no {lost}"


def test_an_index_that_points_outside_the_repository_is_refused(hub, sharded_repo, tmp_path):
    folder = Path(shutil.copytree(sharded_repo, tmp_path / "repo"))
    (folder / INDEX).write_text('{"weight_map": {"a": "../../config.json"}}')
    hub.add(ID, folder)
    assert refusal() == f"--model={ID}: {INDEX}: points outside the folder: ../../config.json"


@pytest.mark.parametrize(
    ("dropped", "added", "says"),
    [
        (WEIGHTS, "pytorch_model.bin", "only as pickles (pytorch_model.bin)"),
        (WEIGHTS, "pytorch_model-00001-of-00002.bin", "refs/pr/N"),
        (WEIGHTS, "adapter_model.safetensors", "it has adapter_model.safetensors"),
        (WEIGHTS, "notes.txt", "no model.safetensors and no model.safetensors.index.json"),
        ("config.json", "notes.txt", "has no config.json"),
        ("config.json", "tiny.Q4_0.gguf", "its GGUF files are given as owner/name/FILE: tiny.Q4_0.gguf"),
    ],
)
def test_a_repository_without_weights_to_read_is_refused_before_anything_is_fetched(
    dropped, added, says, hub, repo, tmp_path
):
    folder = Path(shutil.copytree(repo, tmp_path / "repo"))
    (folder / dropped).unlink()
    (folder / added).write_bytes(b"something")
    hub.add(ID, folder)
    message = refusal()
    assert message.startswith(f"--model={ID}: ")
    assert says in message
    assert hub.files() == []


def test_a_model_that_cannot_be_used_is_refused_by_its_id_and_before_its_weights_are_fetched(hub, repo, tmp_path):
    folder = Path(shutil.copytree(repo, tmp_path / "repo"))
    change_config(folder, architectures=["MambaForCausalLM"], model_type="mamba")
    hub.add(ID, folder)
    message = refusal()
    assert message.startswith(f"--model={ID}: ")
    assert "MambaForCausalLM" in message
    assert str(tmp_path) not in message
    assert WEIGHTS not in hub.files()
    (folder / "config.json").write_text("{")
    hub.add(ID, folder)
    assert refusal().startswith(f"--model={ID}: config.json: not readable as JSON")


def test_a_gguf_file_that_is_not_there_or_not_whole_is_refused(hub, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "tiny.gguf").write_bytes(b"GGUF")
    hub.add(ID, tmp_path / "repo")
    assert refusal(f"{ID}/other.gguf").startswith(f"--model={ID}/other.gguf: {ID} has no other.gguf; ")
    assert "tiny.gguf" in refusal(f"{ID}/other.gguf")
    assert refusal(f"{ID}/tiny.gguf").startswith(f"--model={ID}/tiny.gguf: ")
