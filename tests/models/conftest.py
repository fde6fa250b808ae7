"""A model to be spoilt, and the other families' models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of a good model's folder, to be spoilt."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


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
