"""What holds for a model of every family, saved by PyTorch and loaded here."""

from __future__ import annotations

import copy
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import torch
from checking import torch_oracle
from checking.sites import both_sides, torch_logits
from parity import assert_dtypes, random_ids, round_parameters
from suffix_agreement import assert_suffix_only_agrees

import epo_jax
from epo_jax.models import decoder as sites


def load(folder: Path, dtype: str = "float32") -> epo_jax.LanguageModel:
    return epo_jax.load_model(str(folder), dtype=dtype)


def assert_same_sites(folder: Path, model: torch.nn.Module) -> None:
    """Every named site of every layer is what PyTorch's modules take in or give out."""
    lm = load(folder)
    names = [site for site in sites.SITES if site != sites.RESID_MID or not lm.config.parallel_residual]
    found = both_sides(lm, model, random_ids(lm.config.vocab_size, (2, 11)), names)
    assert found.keys() == set(names)
    for site, (ours, theirs) in found.items():
        assert np.abs(theirs).reshape(len(theirs), -1).max(axis=1).min() > 0.01  # no layer is all but zero
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4, err_msg=site)
        for layer in range(1, len(theirs)):
            assert np.abs(theirs[layer] - theirs[layer - 1]).max() > 0.01  # one layer's are not another's


def assert_same_gradients(folder: Path, model: torch.nn.Module, feature: str = "L1.N7") -> None:
    """Features, cross-entropies and token gradients are PyTorch's; the feature is named as in torch_oracle."""
    lm = load(folder)
    ids = random_ids(260, (4, 9)).astype(np.int32)
    kind, _, token = feature.partition(" ")
    parsed = epo_jax.parse_feature(f"logit:{lm.tokenizer.decode([int(token)])}" if token else kind, lm)
    value, cross_entropy = torch_oracle.scores_of_ids(model, feature, ids)
    scores = epo_jax.score(lm, parsed, ids)
    np.testing.assert_allclose(scores.feature, value, rtol=0, atol=1e-4)
    np.testing.assert_allclose(scores.cross_entropy, cross_entropy, rtol=0, atol=1e-4)
    for penalty in (0.0, np.asarray([3.0, 0.1, 10.0, 1.0])):
        found = np.asarray(epo_jax.token_gradients(lm, parsed, ids, penalty))
        expected = torch_oracle.gradients(model, feature, ids, penalty)
        assert found.shape == expected.shape == (4, 9, lm.config.vocab_size)
        difference, size = (np.linalg.norm(a.reshape(4, -1), axis=1) for a in (found - expected, expected))
        assert size.min() > 1e-3
        assert (difference / size).max() < 1e-4


def assert_half_precision(folder: Path, model: torch.nn.Module, dtype: str, tolerance: float) -> None:
    """Logits in half precision are as far from exact ones of the same rounded weights as the format allows."""
    lm = load(folder, dtype)
    assert_dtypes(lm, dtype)
    ids = random_ids(307)
    found = epo_jax.logits(lm, ids)
    assert found.dtype == jnp.float32
    assert np.isfinite(found).all()
    rounded = copy.deepcopy(model)
    round_parameters(rounded, getattr(torch, dtype))
    expected = torch_logits(rounded, ids)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 1e-5 < error < tolerance


def assert_suffixes(folder: Path, features: tuple[str, ...] = ("L0.N1", "L1.N7", "L2.N3")) -> None:
    """Candidates score by their changed suffix alone as when they are run whole, templates longer than a window."""
    assert_suffix_only_agrees(load(folder), features, [0, 5, 9, 17, 40, 3, 88], [7, 33, 120, 55, 61, 90])
