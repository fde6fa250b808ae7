"""Downloads from the hub go on where they were cut, are checked, and need room."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hub_models import ID, assert_same, load, partials, refusal, shards
from spoiling import WEIGHTS

from epo_jax.models import hub_download
from epo_jax.models.hub import fetch_weights, open_hub_model
from epo_jax.models.hub_id import HubId, parse_hub_id


def test_a_download_that_is_cut_goes_on_at_once_from_where_it_was(hub, repo, tmp_path):
    hub.add(ID, repo)
    hub.cuts[WEIGHTS] = [50_000, 70_000]
    assert_same(load(), repo)
    first, second, third = hub.starts(WEIGHTS)
    assert first == 0 < second <= 50_000 < third <= 120_000


def test_a_download_that_broke_off_is_resumed_by_the_next_attempt_and_whole_shards_are_not_fetched_again(
    hub, sharded_repo, tmp_path, monkeypatch
):
    monkeypatch.setattr(hub_download, "AT_ONCE", 1)
    hub.add(ID, sharded_repo)
    broken = shards(sharded_repo)[1]
    size = (sharded_repo / broken).stat().st_size
    hub.cuts[broken] = [size // 2, *[0] * 20]
    message = refusal()
    assert ID in message
    assert broken in message
    assert "run the same again" in message
    [partial] = partials(tmp_path)
    here = partial.stat().st_size
    assert 0 < here <= size // 2
    before = hub.files()
    assert before.count(shards(sharded_repo)[0]) == 1
    hub.cuts.clear()
    hub.asked.clear()
    assert_same(load(), sharded_repo)
    assert hub.starts(broken) == [here]
    assert sorted(hub.files()) == shards(sharded_repo)[1:]
    assert partials(tmp_path) == []


def test_a_program_that_was_killed_leaves_what_the_next_one_goes_on_from(hub, repo, tmp_path):
    hub.add(ID, repo)
    size = (repo / WEIGHTS).stat().st_size
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
    assert_same(load(), repo)
    assert hub.starts(WEIGHTS) == [here]


def test_a_part_that_is_damaged_is_seen_by_the_checksum_and_fetched_anew(hub, repo, tmp_path):
    hub.add(ID, repo)
    hub.cuts[WEIGHTS] = [50_000, *[0] * 20]
    refusal()
    [partial] = partials(tmp_path)
    partial.write_bytes(b"\0" * partial.stat().st_size)
    hub.cuts.clear()
    assert "checksum" in refusal()
    assert partials(tmp_path) == []
    assert_same(load(), repo)


@pytest.mark.parametrize("change", [-1000, 1000])
def test_a_file_of_another_size_than_the_hub_lists_is_refused_by_name_and_fetched_anew(change, hub, repo, tmp_path):
    hub.add(ID, repo)
    content = (repo / WEIGHTS).read_bytes()
    hub.sent[WEIGHTS] = content[:change] if change < 0 else content + b"\0" * change
    message = refusal()
    assert message.startswith(f"--model={ID}: {WEIGHTS} came with {len(content) + change:,} bytes")
    assert f"{len(content):,}" in message
    hub.sent.clear()
    assert partials(tmp_path) == []
    assert_same(load(), repo)


def test_a_small_file_of_another_size_is_refused_by_name(hub, repo):
    hub.add(ID, repo)
    hub.sent["tokenizer.json"] = b"{}"
    message = refusal()
    assert message.startswith(f"--model={ID}: tokenizer.json cannot be downloaded whole")


def test_weights_that_a_new_commit_has_kept_are_not_fetched_again(hub, repo, tmp_path):
    hub.add(ID, repo)
    load()
    folder = Path(shutil.copytree(repo, tmp_path / "repo"))
    (folder / "README.md").write_text("# A model")
    second = hub.add(ID, folder)
    hub.asked.clear()
    assert load().commit == second
    assert hub.files() == []


def test_programs_that_want_a_model_at_once_fetch_it_once(hub, sharded_repo):
    hub.add(ID, sharded_repo)

    def fetch(_: int) -> Path:
        return fetch_weights(open_hub_model(HubId(ID)))

    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(fetch, range(3)))
    assert len(set(folders)) == 1
    for name in shards(sharded_repo):
        assert hub.starts(name) == [0]
        assert (folders[0] / name).read_bytes() == (sharded_repo / name).read_bytes()


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


def test_a_download_that_has_no_room_is_refused_before_it_starts(hub, repo, monkeypatch):
    hub.add(ID, repo)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(hub_download.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    message = refusal()
    assert "has room for" in message
    assert "HF_HOME" in message
    assert WEIGHTS not in hub.files()


def test_a_disk_that_fills_up_on_the_way_is_one_line_and_what_came_is_kept(hub, repo, tmp_path, monkeypatch):
    hub.add(ID, repo)
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
    assert_same(load(), repo)
    assert hub.starts(WEIGHTS) == [here] != [0]


def test_a_cache_that_cannot_be_written_is_one_line(hub, repo, tmp_path):
    hub.add(ID, repo)
    (tmp_path / "cache").write_text("a file")
    message = refusal()
    assert "the cache cannot be used (" in message
    assert "HF_HOME" in message
