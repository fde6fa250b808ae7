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
def save_neox(save_tokenizer: Callable[..., None]) -> Callable[..., torch.nn.Module]:
    """The function that saves a tiny random GPT-NeoX: (folder, seed=0, **GPTNeoXConfig) -> PyTorch model."""

    def save(folder: Path, seed: int = 0, **changes: object) -> torch.nn.Module:
        settings = {
            "vocab_size": 307,
            "hidden_size": 48,
            "intermediate_size": 53,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "max_position_embeddings": 64,
            "bos_token_id": 0,
            "eos_token_id": None,
            "initializer_range": 0.2,
        }
        torch.manual_seed(seed)
        model = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**(settings | changes))).eval()
        for name, parameter in model.named_parameters():
            if name.endswith(".bias") or "norm" in name:
                # Away from the zeros and ones that would hide a weight which is not read.
                scale = "norm" in name and not name.endswith(".bias")
                torch.nn.init.normal_(parameter, mean=float(scale), std=0.3)
        model.save_pretrained(folder)
        save_tokenizer(folder)
        return model

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
