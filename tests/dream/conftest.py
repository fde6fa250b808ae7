"""Every dream here runs under the transfer guard, and the command's compilation cache is not the user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from broken_off import SMALL
from jax.experimental.compilation_cache import compilation_cache

import epo_jax
from epo_jax.dream import chunks, loop


@pytest.fixture(autouse=True)
def guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search itself may move nothing between host and device without saying so."""
    search = loop.searched

    def guarded(*arguments: Any) -> Any:
        with jax.transfer_guard("disallow"):
            return search(*arguments)

    monkeypatch.setattr(loop, "searched", guarded)


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for the user's cache folder."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands keep what they compile in a folder of the tests, and leave JAX as it was."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def one_step_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one step, so that runs can be broken off anywhere."""
    monkeypatch.setattr(chunks.Pace, "steps", property(lambda _: 1))


@pytest.fixture(scope="module")
def whole(tiny: epo_jax.LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not broken off."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    epo_jax.dream(tiny, "L1.N5", SMALL, seed=4, output=folder, report=False)
    return folder
