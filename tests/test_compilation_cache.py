"""Compiled programs are kept where only the user can put them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import jax
import platformdirs
import pytest

from epo_jax import EpoError
from epo_jax import compilation_cache as caches

POSIX = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")
NAME = "jax_compilation_cache_dir"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What JAX would be told; nothing of it is done."""
    told: dict[str, object] = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    monkeypatch.setattr(caches.compilation_cache, "reset_cache", lambda: None)
    return told


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the user's cache folder, while JAX has been given none."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, **_: tmp_path / "home" / name)
    monkeypatch.setattr(type(jax.config), NAME, None)
    return tmp_path / "home"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@POSIX
def test_the_default_is_the_users_cache_folder_and_private(settings, home, capsys):
    caches.use_compilation_cache()
    folder = Path(str(settings[NAME]))
    assert folder.parent == home / "epo_jax"
    assert mode(folder.parent) == mode(folder) == 0o700
    assert settings["jax_persistent_cache_min_compile_time_secs"] == 0
    caches.use_compilation_cache()
    assert capsys.readouterr() == ("", "")


def test_the_users_cache_folder_is_that_of_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if os.name == "posix":
        assert platformdirs.user_cache_path("epo_jax", appauthor=False) == tmp_path / "epo_jax"


@POSIX
def test_a_given_folder_is_made_private_and_followed_through_links(settings, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    caches.use_compilation_cache(tmp_path / "link" / "cache")
    # What is used is what was checked, wherever the link points later.
    assert Path(str(settings[NAME])).parent == tmp_path / "real" / "cache"
    assert mode(tmp_path / "real" / "cache") == 0o700


def test_an_empty_text_switches_it_off(settings):
    caches.use_compilation_cache("")
    assert settings == {NAME: None}


def test_a_cache_that_jax_was_given_is_left_alone(settings, monkeypatch):
    monkeypatch.setattr(type(jax.config), NAME, "/somewhere")
    caches.use_compilation_cache()
    assert settings == {}


@POSIX
@pytest.mark.parametrize("bits", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_refused(settings, tmp_path, bits):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(bits)
    (tmp_path / "link").symlink_to(folder)
    for path in (folder, tmp_path / "link"):
        with pytest.raises(EpoError, match=f"^--compilation_cache_dir={path}: others can write it") as caught:
            caches.use_compilation_cache(path)
        assert "\n" not in str(caught.value)
    assert settings == {}


@POSIX
def test_a_folder_or_a_link_of_another_user_is_refused(settings, tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(EpoError, match="belongs to another user"):
        caches.use_compilation_cache(tmp_path / "cache")
    assert settings == {}


@POSIX
def test_a_folder_that_anybody_can_replace_is_refused_unless_it_is_sticky(settings, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(EpoError, match="everybody can replace it"):
        caches.use_compilation_cache(tmp_path / "shared" / "cache")
    (tmp_path / "shared").chmod(0o1777)
    caches.use_compilation_cache(tmp_path / "shared" / "cache")
    assert settings


def test_a_given_folder_that_cannot_be_written_is_refused(settings, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "cache", Path("~nobody_of_this_name/cache")):
        with pytest.raises(EpoError, match=r"^--compilation_cache_dir=.*cannot be written"):
            caches.use_compilation_cache(path)
    assert settings == {}


def test_a_bucket_is_refused_and_not_taken_for_a_folder(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EpoError, match=r"^--compilation_cache_dir=gs://bucket/cache: "):
        caches.use_compilation_cache("gs://bucket/cache")
    assert settings == {}
    assert not list(tmp_path.iterdir())


def test_a_default_that_cannot_be_used_is_one_line_and_the_run_goes_on(settings, home, capsys):
    home.write_text("not a folder")
    caches.use_compilation_cache()
    assert settings == {}
    error = capsys.readouterr().err
    assert error.startswith("epo_jax: no compilation cache: ")
    assert error.count("\n") == 1


@POSIX
def test_a_default_that_others_can_write_is_not_used(settings, home, capsys):
    (home / "epo_jax").mkdir(parents=True)
    (home / "epo_jax").chmod(0o777)
    caches.use_compilation_cache()
    assert settings == {}
    assert "others can write it" in capsys.readouterr().err


def test_machines_that_share_a_home_do_not_share_code(settings, tmp_path, monkeypatch):
    caches.use_compilation_cache(tmp_path / "cache")
    here = settings[NAME]
    monkeypatch.setattr(caches.platform, "processor", lambda: "another")
    caches.use_compilation_cache(tmp_path / "cache")
    assert settings[NAME] != here
