"""A model to be spoilt, the other families' models, and models on the hub."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch
import transformers
from family_configs import CONFIGS
from hub_models import shards
from spoiling import WEIGHTS


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of a good model's folder, to be spoilt."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def sharded(folder: Path, tiny_torch: torch.nn.Module) -> Path:
    """The same in several shards."""
    (folder / WEIGHTS).unlink()
    tiny_torch.save_pretrained(folder, max_shard_size="60KB")
    return folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, torch.nn.Module]]:
    """The folder and PyTorch's model of (family, configuration), which tests share and leave as they are."""

    @functools.cache
    def save(family: str, name: str) -> tuple[Path, torch.nn.Module]:
        folder = tmp_path_factory.mktemp(family)
        return folder, tiny_models.save(folder, family, **CONFIGS[family][name])

    return save


@pytest.fixture(scope="session")
def neox_folder(save_neox: Callable[..., torch.nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random GPT-NeoX, saved."""
    folder = tmp_path_factory.mktemp("neox")
    save_neox(folder)
    return folder


@pytest.fixture(scope="session")
def neox_torch(neox_folder: Path) -> torch.nn.Module:
    """The same in PyTorch."""
    return transformers.AutoModelForCausalLM.from_pretrained(neox_folder, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def sharded_repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of other weights, in one file."""
    folder = tmp_path_factory.mktemp("repo")
    tiny_models.save(folder, "llama", seed=1)
    return folder
