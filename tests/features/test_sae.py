"""Latents of autoencoders against what the sae-lens package computes, and against hooks in PyTorch."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models
import tiny_saes
import torch
import transformers
from torch_features import Seen, relative, scores_and_gradients

import epo_jax
from epo_jax.features import sae
from epo_jax.models.decoder import ATTN_OUT, MLP_OUT, RESID_MID, RESID_POST, RESID_PRE, Z

GOLDENS = Path(__file__).parent / "sae_golden"
FOLDERS = sorted(path.parent for path in GOLDENS.rglob("expected.npz"))
LOADING = "model_from_pretrained_kwargs"
IDS = np.random.default_rng(0).integers(1, 290, (5, 7))


def latent(lm, folder: Path, index: int) -> sae.Latent:
    found = epo_jax.parse_feature(f"sae:{folder}:{index}", lm)
    assert isinstance(found, sae.Latent)
    return found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(GOLDENS).parts[0])
def test_a_file_that_sae_lens_wrote_gives_what_sae_lens_computes(tiny, folder):
    with np.load(folder / "expected.npz") as stored:
        expected = dict(stored)
    values = jnp.asarray(expected["values"])
    latents = [latent(tiny, folder, index) for index in range(expected["activations"].shape[1])]
    read = np.asarray(jax.vmap(latents[0].read)(values))
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *latents)
    search = jax.vmap(lambda one: jax.vmap(one.pre_activation)(read), out_axes=1)(stack)
    scale = np.abs(expected["search"]).max()
    np.testing.assert_allclose(search, expected["search"], rtol=1e-5, atol=1e-6 * scale)
    active = np.stack([one.activations(read) for one in latents], axis=1)
    np.testing.assert_array_equal(active == 0, expected["activations"] == 0)
    np.testing.assert_allclose(active, expected["activations"], rtol=1e-5, atol=1e-6 * scale)


def test_goldens_are_of_every_architecture_and_layout():
    names = {folder.relative_to(GOLDENS).parts[0] for folder in FOLDERS}
    assert {f"{kind}-v6.54.12" for kind in ("standard", "gated", "jumprelu", "topk", "batchtopk", "checkpoint")} < names
    assert {"standard-v3.23.4", "topk-v3.23.4", "hook-z-v5.11.0", "gemma-scope-v6.54.12"} < names


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A tiny GPT-2, whose norms are LayerNorm, here and in PyTorch."""
    folder = tmp_path_factory.mktemp("gpt2")
    tiny_models.save(folder, "gpt2")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.set_attn_implementation("eager")
    return epo_jax.load_model(str(folder), dtype="float32"), model


SLOW = pytest.mark.slow
CENTERED = {"center_writing_weights": True, "fold_ln": True, "center_unembed": True}
CASES = [
    pytest.param("gpt2", "standard", RESID_PRE, {}, CENTERED),
    pytest.param("gpt2", "gated", RESID_MID, {}, CENTERED),
    pytest.param(
        "gpt2", "jumprelu", RESID_POST, {"normalize_activations": "constant_norm_rescale"}, CENTERED, marks=SLOW
    ),
    pytest.param("gpt2", "topk", MLP_OUT, {}, CENTERED, marks=SLOW),
    pytest.param("gpt2", "standard", ATTN_OUT, {"normalize_activations": "layer_norm"}, CENTERED, marks=SLOW),
    pytest.param("gpt2", "gated", Z, {"normalize_activations": "constant_norm_rescale"}, CENTERED, marks=SLOW),
    pytest.param("gpt2", "jumprelu", MLP_OUT, {"apply_b_dec_to_input": False}, {}, marks=SLOW),
    pytest.param("llama", "standard", RESID_PRE, {"normalize_activations": "constant_norm_rescale"}, CENTERED),
    pytest.param("llama", "topk", ATTN_OUT, {}, {}),
    pytest.param("llama", "gated", RESID_MID, {}, {}, marks=SLOW),
    pytest.param("llama", "jumprelu", Z, {"apply_b_dec_to_input": False}, {}, marks=SLOW),
]


@pytest.mark.parametrize(("family", "architecture", "site", "config", "loading"), CASES)
def test_values_and_gradients_are_those_of_hooks_in_pytorch(
    family, architecture, site, config, loading, tiny, tiny_torch, gpt2, tmp_path
):
    lm, model = (tiny, tiny_torch) if family == "llama" else gpt2
    model.set_attn_implementation("eager")
    written = tiny_saes.write(
        tmp_path, architecture, site.format(l=1), lm.config.width, metadata={LOADING: loading}, **config
    )
    # TransformerLens centers what is written to the residual stream of models with LayerNorm alone.
    centered = bool(loading) and family == "gpt2" and site != Z

    def meaning(seen: Seen) -> torch.Tensor:
        return written.both(seen.at(site, 1), centered)[0][:, 4]

    feature = epo_jax.parse_feature(written.text(4), lm)
    values, _, gradients = scores_and_gradients(model, meaning, IDS, [], np.float32(0.3), 0, IDS.shape[1])
    np.testing.assert_allclose(epo_jax.score(lm, feature, IDS).feature, values, rtol=1e-4, atol=1e-4)
    assert relative(epo_jax.token_gradients(lm, feature, IDS, 0.3), gradients).max() < 1e-4


def test_a_model_of_another_name_is_told_and_not_refused(tiny, tmp_path, caplog):
    names = {"gpt2-small": "openai-community/gpt2", "gemma-2-2b": "google/gemma-2-2b", "pythia-70m": "owner/other"}
    for trained, loaded in names.items():
        written = tiny_saes.write(tmp_path, "standard", "blocks.1.hook_mlp_out", 36, metadata={"model_name": trained})
        caplog.clear()
        epo_jax.parse_feature(written.text(0), dataclasses.replace(tiny, source=loaded))
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * (trained == "pythia-70m")
    assert "was trained on pythia-70m, and the model is owner/other" in caplog.text


def test_a_row_of_zeros_has_a_gradient(tiny, tmp_path):
    # Rows that stand for no token are zeros; what is not a number there would spoil the sums of gradients.
    for kind in ("layer_norm", "constant_norm_rescale"):
        written = tiny_saes.write(tmp_path, "standard", "blocks.1.hook_mlp_out", 36, normalize_activations=kind)
        feature = epo_jax.parse_feature(written.text(0), tiny)
        assert np.isfinite(jax.grad(lambda x, one=feature: one.pre_activation(one.read(x)))(jnp.zeros(36))).all()
