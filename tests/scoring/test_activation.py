"""Activations of latents against hooks in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_saes
import torch
from checking.sites import watched

import epo_jax
from epo_jax import EpoError
from epo_jax.autoencoders import tensor_files
from epo_jax.models.decoder import RESID_POST, Z
from epo_jax.scoring import activation as module
from epo_jax.scoring.activation import activation

IDS = np.random.default_rng(0).integers(1, 290, (7, 6))
INDEX = 4


@pytest.fixture(scope="module")
def values(tiny_torch):
    """Values at every token, after the first layer: site -> [B, S, ...]."""
    with torch.no_grad(), watched(tiny_torch, [RESID_POST, Z]) as seen:
        tiny_torch(torch.from_numpy(IDS))
    return {site: seen[site][1] for site in (RESID_POST, Z)}


def expected(written, values: torch.Tensor) -> np.ndarray:
    """Of every token [B, S]."""
    rows = values.reshape(-1, *values.shape[2:])
    return written.both(rows)[1][:, INDEX].reshape(values.shape[:2]).numpy()


@pytest.mark.parametrize("architecture", ["standard", "gated", "jumprelu", "topk"])
def test_activations_are_those_of_hooks_in_pytorch(tiny, values, tmp_path, monkeypatch, architecture):
    monkeypatch.setattr(module, "GROUP", 3)
    # Several blocks of the encoder.
    monkeypatch.setattr(tensor_files, "BLOCK", 5 * tiny_saes.D_SAE)
    site = Z if architecture == "topk" else RESID_POST
    written = tiny_saes.write(tmp_path, architecture, site.format(l=1), 36, seed=1)
    feature = epo_jax.parse_feature(written.text(INDEX), tiny)
    found = expected(written, values[site])
    assert 0 < np.count_nonzero(found[:, -1]) < len(found), "on for some, off for others"
    np.testing.assert_allclose(activation(tiny, feature, IDS), found[:, -1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(activation(tiny, feature, IDS, read=2), found[:, 2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(activation(tiny, feature, IDS, read="max"), found.max(axis=1), rtol=1e-4, atol=1e-5)
    negated = epo_jax.parse_feature(f"-{written.text(INDEX)}", tiny)
    np.testing.assert_array_equal(activation(tiny, negated, IDS), activation(tiny, feature, IDS))


def test_the_largest_activation_is_looked_for_among_the_optimized_tokens(tiny, values, tmp_path):
    written = tiny_saes.write(tmp_path, "standard", RESID_POST.format(l=1), 36, seed=1)
    feature = epo_jax.parse_feature(written.text(INDEX), tiny)
    decode = tiny.tokenizer.decode
    ids = tiny.tokenizer.encode("The cat sat on", add_special_tokens=False)
    template = epo_jax.Template(prefix=decode(ids[:1]), suffix=decode(ids[-1:]), bos="never")
    around = [tiny.tokenizer.encode(text, add_special_tokens=False) for text in (template.prefix, template.suffix)]
    prompts = np.asarray([[*around[0], *row, *around[1]] for row in IDS[:, :3].tolist()])
    every = np.stack([activation(tiny, feature, prompts, read=place) for place in range(prompts.shape[1])], axis=1)
    inside = every[:, len(around[0]) : len(around[0]) + 3]
    np.testing.assert_allclose(activation(tiny, feature, prompts, template, read="max"), inside.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(activation(tiny, feature, prompts, template), every[:, -1], rtol=1e-6)


def test_only_latents_have_activations(tiny):
    with pytest.raises(EpoError, match=r"--feature=L1\.N5: has no activation; latents of autoencoders do"):
        activation(tiny, epo_jax.parse_feature("L1.N5", tiny), IDS)
