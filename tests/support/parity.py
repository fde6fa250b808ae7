"""Logits and dtypes of models compared with PyTorch."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from checking.sites import torch_logits

import epo_jax
from epo_jax.models.config import DTYPES

# How the families name the parameters of their norms.
NORM = re.compile(r"norm|\bln_")


def random_ids(vocab_size: int, shape: tuple[int, int] = (3, 17), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


def round_parameters(model: torch.nn.Module, dtype: torch.dtype) -> None:
    # Parameters alone: model.to(dtype) would round the rotary frequencies too. Norms keep theirs, as ours do.
    for name, parameter in model.named_parameters():
        if not NORM.search(name):
            parameter.data = parameter.data.to(dtype).to(torch.float32)


def assert_dtypes(lm: epo_jax.LanguageModel, dtype: str) -> None:
    """Norms are float32, everything else is what was asked for."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(lm.params):
        norm = "norm" in jax.tree_util.keystr(path)
        assert leaf.dtype == (jnp.float32 if norm else DTYPES[dtype]), path


def assert_same_logits(folder: Path, model: torch.nn.Module) -> None:
    ids = random_ids(model.config.vocab_size)
    expected = torch_logits(model, ids)
    assert expected.std() > 0.1  # else the tolerance would hide errors
    found = epo_jax.logits(epo_jax.load_model(str(folder), dtype="float32"), ids)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
