"""Models by hub id: the real hub library against a server on loopback."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import tiny_models
from hub_server import TOKEN, HubServer
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from spoiling import IDS, INDEX, WEIGHTS, change_config

import epo_jax
from epo_jax.models import hub_download
from epo_jax.models.hub import fetch_weights, open_hub_model
from epo_jax.models.hub_id import HubId, parse_hub_id

ID = "owner/tiny"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in several shards, among other files that a repository may have."""
    folder = tmp_path_factory.mktemp("sharded")
    model = tiny_models.save(folder, "llama")
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="60KB")
    assert len(shards(folder)) > 3
    (folder / "original").mkdir()
    for name in ("consolidated.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "original/weights.pth"):
        (folder / name).write_bytes(b"not wanted")
    (folder / "README.md").write_text("# A model")
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of other weights, in one file."""
    folder = tmp_path_factory.mktemp("other")
    tiny_models.save(folder, "llama", seed=1)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The server, where the library finds it, with an empty cache, no login and no patience."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    # What a cut loses: the library writes whole pieces of this size.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    wait = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: wait(min(seconds, 0.01)))
    with HubServer().running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        close_session()
        yield server
    close_session()


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("model-*.safetensors"))


def load(name: str = ID, revision: str | None = None) -> epo_jax.LanguageModel:
    return epo_jax.load_model(name, "float32", revision=revision)


def refusal(name: str = ID, revision: str | None = None) -> str:
    with pytest.raises(epo_jax.EpoError) as caught:
        load(name, revision)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def assert_same(lm: epo_jax.LanguageModel, folder: Path) -> None:
    expected = epo_jax.logits(epo_jax.load_model(folder, "float32"), IDS)
    np.testing.assert_array_equal(epo_jax.logits(lm, IDS), expected)


def partials(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").glob("*/blobs/*.incomplete"))


def test_a_repository_loads_as_its_folder_does_and_only_what_it_needs_is_fetched_and_once(hub, sharded):
    commit = hub.add(ID, sharded)
    lm = load()
    assert_same(lm, sharded)
    assert (lm.source, lm.revision, lm.commit) == (ID, None, commit)
    settings = ["config.json", "tokenizer.json", "tokenizer_config.json", INDEX]
    assert sorted(hub.files()) == sorted([*settings, *shards(sharded)])
    hub.asked.clear()
    assert_same(load(), sharded)
    assert hub.files() == []


def test_a_commit_that_is_in_the_cache_is_loaded_without_a_question(hub, other):
    commit = hub.add(ID, other)
    load()
    hub.asked.clear()
    lm = load(revision=commit)
    assert (lm.revision, lm.commit) == (commit, commit)
    assert hub.asked == []


def test_other_programs_find_what_was_fetched_in_the_librarys_cache(hub, other, tmp_path):
    commit = hub.add(ID, other)
    load()
    cached = huggingface_hub.try_to_load_from_cache(ID, WEIGHTS)
    assert Path(str(cached)).read_bytes() == (other / WEIGHTS).read_bytes()
    found = huggingface_hub.snapshot_download(ID, endpoint=hub.url, local_files_only=True)
    assert Path(found) == tmp_path / "cache" / "models--owner--tiny" / "snapshots" / commit
    assert partials(tmp_path) == []


def test_a_download_that_is_cut_goes_on_at_once_from_where_it_was(hub, other, tmp_path):
    hub.add(ID, other)
    hub.cuts[WEIGHTS] = [50_000, 70_000]
    assert_same(load(), other)
    first, second, third = hub.starts(WEIGHTS)
    assert first == 0 < second <= 50_000 < third <= 120_000


def test_a_download_that_broke_off_is_resumed_by_the_next_attempt_and_whole_shards_are_not_fetched_again(
    hub, sharded, tmp_path, monkeypatch
):
    monkeypatch.setattr(hub_download, "AT_ONCE", 1)
    hub.add(ID, sharded)
    broken = shards(sharded)[1]
    size = (sharded / broken).stat().st_size
    hub.cuts[broken] = [size // 2, *[0] * 20]
    message = refusal()
    assert ID in message
    assert broken in message
    assert "run the same again" in message
    [partial] = partials(tmp_path)
    here = partial.stat().st_size
    assert 0 < here <= size // 2
    before = hub.files()
    assert before.count(shards(sharded)[0]) == 1
    hub.cuts.clear()
    hub.asked.clear()
    assert_same(load(), sharded)
    assert hub.starts(broken) == [here]
    assert sorted(hub.files()) == shards(sharded)[1:]
    assert partials(tmp_path) == []


def test_a_program_that_was_killed_leaves_what_the_next_one_goes_on_from(hub, other, tmp_path):
    hub.add(ID, other)
    size = (other / WEIGHTS).stat().st_size
    # The rest stays out: the connection is cut, and then nothing comes.
    hub.cuts[WEIGHTS] = [size // 2]
    code = (
        "import epo_jax, huggingface_hub.constants as c; c.DOWNLOAD_CHUNK_SIZE = 1024; "
        f"c.HF_HUB_CACHE = {str(tmp_path / 'cache')!r}; epo_jax.load_model({ID!r}, 'float32')"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while len(hub.starts(WEIGHTS)) < 1 and time.monotonic() < deadline:
            hub.ended.wait(0.02)
        hub.stalled.add(WEIGHTS)
        while len(hub.starts(WEIGHTS)) < 2 and time.monotonic() < deadline:
            hub.ended.wait(0.02)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    [partial] = partials(tmp_path)
    here = partial.stat().st_size
    assert 0 < here <= size // 2
    hub.stalled.clear()
    hub.asked.clear()
    assert_same(load(), other)
    assert hub.starts(WEIGHTS) == [here]


def test_a_part_that_is_damaged_is_seen_by_the_checksum_and_fetched_anew(hub, other, tmp_path):
    hub.add(ID, other)
    hub.cuts[WEIGHTS] = [50_000, *[0] * 20]
    refusal()
    [partial] = partials(tmp_path)
    partial.write_bytes(b"\0" * partial.stat().st_size)
    hub.cuts.clear()
    assert "checksum" in refusal()
    assert partials(tmp_path) == []
    assert_same(load(), other)


@pytest.mark.parametrize("change", [-1000, 1000])
def test_a_file_of_another_size_than_the_hub_lists_is_refused_by_name_and_fetched_anew(change, hub, other, tmp_path):
    hub.add(ID, other)
    content = (other / WEIGHTS).read_bytes()
    hub.sent[WEIGHTS] = content[:change] if change < 0 else content + b"\0" * change
    message = refusal()
    assert message.startswith(f"--model={ID}: {WEIGHTS} came with {len(content) + change:,} bytes")
    assert f"{len(content):,}" in message
    hub.sent.clear()
    assert partials(tmp_path) == []
    assert_same(load(), other)


def test_a_small_file_of_another_size_is_refused_by_name(hub, other):
    hub.add(ID, other)
    hub.sent["tokenizer.json"] = b"{}"
    message = refusal()
    assert message.startswith(f"--model={ID}: tokenizer.json cannot be downloaded whole")


def test_revisions_are_different_models(hub, sharded, other):
    first, second = hub.add(ID, sharded), hub.add(ID, other, branch="step1000")
    lm = load(revision="step1000")
    assert_same(lm, other)
    assert (lm.source, lm.revision, lm.commit) == (ID, "step1000", second)
    assert_same(load(), sharded)
    assert_same(load(revision=first), sharded)
    assert_same(load(revision="main"), sharded)


def test_a_branch_that_moved_is_fetched_again(hub, sharded, other):
    hub.add(ID, sharded)
    load()
    second = hub.add(ID, other)
    lm = load()
    assert lm.commit == second
    assert_same(lm, other)


def test_weights_that_a_new_commit_has_kept_are_not_fetched_again(hub, other, tmp_path):
    hub.add(ID, other)
    load()
    folder = Path(shutil.copytree(other, tmp_path / "repo"))
    (folder / "README.md").write_text("# A model")
    second = hub.add(ID, folder)
    hub.asked.clear()
    assert load().commit == second
    assert hub.files() == []


def test_programs_that_want_a_model_at_once_fetch_it_once(hub, sharded):
    hub.add(ID, sharded)

    def fetch(_: int) -> Path:
        return fetch_weights(open_hub_model(HubId(ID)))

    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(fetch, range(3)))
    assert len(set(folders)) == 1
    for name in shards(sharded):
        assert hub.starts(name) == [0]
        assert (folders[0] / name).read_bytes() == (sharded / name).read_bytes()


def test_an_unknown_revision_is_refused(hub, other):
    hub.add(ID, other)
    message = refusal(revision="step7")
    assert message.startswith("--revision=step7: owner/tiny has no such branch, tag or commit")


@pytest.mark.parametrize("name", ["smollm2-135m", "random:pythia-70m", "FOLDER", "no/such/folder", "./no-such-folder"])
def test_a_revision_of_what_is_not_on_the_hub_is_refused(name, other):
    message = refusal(str(other) if name == "FOLDER" else name, "main")
    assert message.startswith("--revision=main: only models of the Hugging Face hub have revisions")


def test_an_empty_revision_is_refused(hub):
    assert refusal(revision=" ").startswith("--revision= : empty")


def test_a_folder_here_is_taken_before_the_hub(hub, sharded, other, tmp_path, monkeypatch):
    hub.add(ID, sharded)
    shutil.copytree(other, tmp_path / ID)
    monkeypatch.chdir(tmp_path)
    assert_same(load(), other)
    assert hub.asked == []


@pytest.mark.parametrize("gated", ["files", "all"])
@pytest.mark.parametrize("token", [None, "hf_of_someone_else"])
def test_a_gated_model_is_refused_with_where_its_licence_is_and_how_to_log_in(gated, token, hub, other, monkeypatch):
    hub.add(ID, other)
    hub.repos[ID].gated = gated
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    message = refusal()
    assert message.startswith(f"--model={ID}: ")
    assert f"accept its licence at https://huggingface.co/{ID}" in message
    assert "hf auth login" in message
    assert "HF_TOKEN" in message
    assert WEIGHTS not in hub.files()


def test_a_private_model_loads_with_a_token_that_the_storage_never_sees(hub, other, monkeypatch):
    hub.add(ID, other)
    hub.repos[ID].private = True
    message = refusal()
    assert "misspelt, or private: log in with `hf auth login`" in message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert_same(load(), other)
    assert {one.token for one in hub.asked if one.storage} == {None}
    monkeypatch.setenv("HF_TOKEN", "hf_of_someone_else")
    assert "the token that is set may not read it" in refusal()


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


def test_a_bare_name_of_old_times_loads(hub, other):
    hub.add("tiny", other)
    lm = load("tiny")
    assert_same(lm, other)
    assert lm.source == "tiny"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_that_is_unwell_is_one_line_and_what_is_in_the_cache_is_used_with_a_warning(status, hub, other, caplog):
    commit = hub.add(ID, other)
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


def test_no_network_is_one_line_and_what_is_in_the_cache_is_used(hub, other, monkeypatch):
    commit = hub.add(ID, other)
    load()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert load().commit == commit
        message = refusal("owner/other")
    assert "cannot be reached (" in message
    assert "no copy of it in the cache" in message


def test_a_hub_that_does_not_answer_in_time_is_one_line(hub, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
        assert "cannot be reached (" in refusal()


def test_offline_the_cache_is_used_and_nothing_is_asked(hub, sharded, monkeypatch, caplog):
    commit = hub.add(ID, sharded)
    load()
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    lm = load()
    assert lm.commit == commit
    assert_same(lm, sharded)
    assert not [record for record in caplog.records if record.name.startswith("epo_jax")]
    message = refusal("owner/other")
    assert "HF_HUB_OFFLINE is set" in message
    assert "no copy of it in the cache" in message
    assert "no copy of it in the cache" in refusal(revision="step7")
    assert hub.asked == []


def test_offline_a_copy_that_is_not_whole_is_refused_with_what_it_lacks(hub, sharded, monkeypatch):
    hub.add(ID, sharded)
    load()
    first = shards(sharded)[0]
    Path(str(huggingface_hub.try_to_load_from_cache(ID, first))).unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert f"its copy in the cache lacks {first}" in refusal()


def test_files_that_the_index_names_and_the_repository_lacks_are_named_before_any_weights_are_fetched(
    hub, sharded, tmp_path
):
    folder = Path(shutil.copytree(sharded, tmp_path / "repo"))
    lost = shards(folder)[1]
    (folder / lost).unlink()
    hub.add(ID, folder)
    message = refusal()
    assert message.startswith(f"--model={ID}: ")
    assert f"lacks: {lost}" in message
    assert not set(hub.files()) & set(shards(sharded))


def test_a_file_that_is_listed_and_not_there_is_refused(hub, sharded, tmp_path):
    folder = Path(shutil.copytree(sharded, tmp_path / "repo"))
    lost = shards(folder)[1]
    (folder / lost).unlink()
    hub.absent.add(lost)
    hub.add(ID, folder)
    assert refusal() == f"--model={ID}: {ID} has no {lost}"


def test_an_index_that_points_outside_the_repository_is_refused(hub, sharded, tmp_path):
    folder = Path(shutil.copytree(sharded, tmp_path / "repo"))
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
    dropped, added, says, hub, other, tmp_path
):
    folder = Path(shutil.copytree(other, tmp_path / "repo"))
    (folder / dropped).unlink()
    (folder / added).write_bytes(b"something")
    hub.add(ID, folder)
    message = refusal()
    assert message.startswith(f"--model={ID}: ")
    assert says in message
    assert hub.files() == []


def test_a_model_that_cannot_be_used_is_refused_by_its_id_and_before_its_weights_are_fetched(hub, other, tmp_path):
    folder = Path(shutil.copytree(other, tmp_path / "repo"))
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


def test_a_gguf_file_of_a_repository_is_fetched_alone(hub, tmp_path):
    folder = tmp_path / "repo" / "small"
    folder.mkdir(parents=True)
    for name in ("a.gguf", "b.gguf", "config.json"):
        (folder / name).write_bytes(name.encode() * 5000)
    hub.add("owner/tiny-GGUF", tmp_path / "repo")
    hub.cuts["small/b.gguf"] = [10_000]
    found = parse_hub_id("owner/tiny-GGUF/small/b.gguf")
    assert found is not None
    path = fetch_weights(open_hub_model(found))
    assert path.name == "b.gguf"
    assert path.read_bytes() == b"b.gguf" * 5000
    assert set(hub.files()) == {"small/b.gguf"}
    assert hub.starts("small/b.gguf")[1] > 0


@pytest.mark.slow
def test_a_gguf_file_of_a_repository_loads(hub, embedded_gguf, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "model.gguf").symlink_to(embedded_gguf)
    commit = hub.add("owner/tiny-GGUF", tmp_path / "repo")
    lm = load("owner/tiny-GGUF/model.gguf")
    assert (lm.source, lm.commit, lm.config.layers) == ("owner/tiny-GGUF/model.gguf", commit, 30)


def test_a_gguf_file_that_is_not_there_or_not_whole_is_refused(hub, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "tiny.gguf").write_bytes(b"GGUF")
    hub.add(ID, tmp_path / "repo")
    assert refusal(f"{ID}/other.gguf").startswith(f"--model={ID}/other.gguf: {ID} has no other.gguf; ")
    assert "tiny.gguf" in refusal(f"{ID}/other.gguf")
    assert refusal(f"{ID}/tiny.gguf").startswith(f"--model={ID}/tiny.gguf: ")


def test_a_download_that_has_no_room_is_refused_before_it_starts(hub, other, monkeypatch):
    hub.add(ID, other)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(hub_download.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    message = refusal()
    assert "has room for" in message
    assert "HF_HOME" in message
    assert WEIGHTS not in hub.files()


def test_a_disk_that_fills_up_on_the_way_is_one_line_and_what_came_is_kept(hub, other, tmp_path, monkeypatch):
    hub.add(ID, other)
    write = hub_download._Partial.write

    def full(self: hub_download._Partial, data: bytes) -> int:
        if self.tell() > 20_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(hub_download._Partial, "write", full)
        assert "no space is left in" in refusal()
    [partial] = partials(tmp_path)
    here = partial.stat().st_size
    hub.asked.clear()
    assert_same(load(), other)
    assert hub.starts(WEIGHTS) == [here] != [0]


def test_a_cache_that_cannot_be_written_is_one_line(hub, other, tmp_path):
    hub.add(ID, other)
    (tmp_path / "cache").write_text("a file")
    message = refusal()
    assert "the cache cannot be used (" in message
    assert "HF_HOME" in message


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
