"""The decoder against PyTorch's GPT-NeoX: logits, every named site and token gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from checking import torch_oracle
from checking.sites import both_sides, torch_logits
from flax import nnx
from parity import assert_dtypes, assert_same_logits, random_ids, round_parameters

import epo_jax
from epo_jax.models import decoder as sites
from epo_jax.models.blocks import norm
from epo_jax.models.config import DTYPES

Save = Callable[..., torch.nn.Module]


def rotary(share: float, base: float = 10000.0) -> dict[str, object]:
    return {"rope_type": "default", "rope_theta": base, "partial_rotary_factor": share}


EVERYTHING = {
    "hidden_size": 60,
    "num_attention_heads": 5,
    "intermediate_size": 41,
    "num_hidden_layers": 4,
    "vocab_size": 311,
    "use_parallel_residual": False,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "hidden_act": "gelu_fast",
    "rope_parameters": rotary(0.5, 321.0),
    "layer_norm_eps": 0.01,
}
CONFIGS = {
    "parallel residual": {},
    "sequential residual": {"use_parallel_residual": False},
    "half rotary": {"rope_parameters": rotary(0.5)},
    "full rotary": {"rope_parameters": rotary(1.0)},
    "a share that is no whole number of components": {"rope_parameters": rotary(0.33)},
    "small rotary base": {"rope_parameters": rotary(1.0, 7.0)},
    "tied head": {"tie_word_embeddings": True},
    "no attention biases": {"attention_bias": False},
    "sequential, no attention biases, tied": {
        "use_parallel_residual": False,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
    "odd sizes": {"vocab_size": 401, "hidden_size": 70, "num_attention_heads": 7, "intermediate_size": 33},
    "one head": {"num_attention_heads": 1},
    "one layer, one neuron": {"num_hidden_layers": 1, "intermediate_size": 1},
    "relu": {"hidden_act": "relu"},
    "silu": {"hidden_act": "silu"},
    "gelu_fast": {"hidden_act": "gelu_fast"},
    "gelu_new": {"hidden_act": "gelu_new"},
    "large layer_norm_eps": {"layer_norm_eps": 0.3},
    "everything": EVERYTHING,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_pytorch(name: str, tmp_path: Path, save_neox: Save) -> None:
    assert_same_logits(tmp_path, save_neox(tmp_path, **CONFIGS[name]))


@pytest.mark.parametrize(
    "name",
    [
        "sequential residual",
        "half rotary",
        "full rotary",
        "tied head",
        "no attention biases",
        "relu",
        "silu",
        "large layer_norm_eps",
    ],
)
def test_each_setting_changes_the_logits(name: str, save_neox: Save, neox_folder: Path, tmp_path: Path) -> None:
    # A setting that the decoder ignored would go unseen if it made no difference here.
    save_neox(tmp_path, **CONFIGS[name])
    plain, other = (epo_jax.load_model(str(folder), dtype="float32") for folder in (neox_folder, tmp_path))
    ids = random_ids(307)
    assert np.abs(epo_jax.logits(plain, ids) - epo_jax.logits(other, ids)).max() > 0.05


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.004), ("bfloat16", 0.03)])
def test_half_precision_is_as_close_as_its_rounding(
    dtype: str, tolerance: float, parallel: bool, tmp_path: Path, save_neox: Save
) -> None:
    model = save_neox(tmp_path, use_parallel_residual=parallel)
    lm = epo_jax.load_model(str(tmp_path), dtype=dtype)
    assert_dtypes(lm, dtype)
    ids = random_ids(307)
    found = epo_jax.logits(lm, ids)
    assert found.dtype == jnp.float32
    assert np.isfinite(found).all()
    round_parameters(model, getattr(torch, dtype))
    expected = torch_logits(model, ids)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 1e-5 < error < tolerance


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_norms_are_computed_in_float32(kind: str, dtype: str, shift: float, neox_folder: Path) -> None:
    # Sums of squares of these rows are beyond float16, and their spread is lost in sums that bfloat16 keeps.
    config = dataclasses.replace(epo_jax.load_model(str(neox_folder), dtype="float32").config, norm=kind, dtype=dtype)
    rows = jnp.asarray(np.random.default_rng(0).normal(shift, 3, (5, config.width)) * 8, DTYPES[dtype])
    found = norm(config, config.width, nnx.Rngs(0))(rows)
    assert found.dtype == DTYPES[dtype]
    exact = np.asarray(rows, np.float64)
    mean = exact.mean(axis=-1, keepdims=True) if kind == "layer" else 0.0
    expected = (exact - mean) / np.sqrt(((exact - mean) ** 2).mean(axis=-1, keepdims=True) + config.norm_eps)
    rounding = float(jnp.finfo(DTYPES[dtype]).eps)
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=2 * rounding, atol=1e-4)


@pytest.fixture(scope="module", params=["parallel residual", "sequential residual", "everything"])
def observed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, save_neox: Save
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Site -> its values [L, B, S, ...] here and in PyTorch."""
    folder = tmp_path_factory.mktemp("sites")
    save_neox(folder, **CONFIGS[request.param])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    lm = epo_jax.load_model(str(folder), dtype="float32")
    names = [site for site in sites.SITES if site != sites.RESID_MID or not model.config.use_parallel_residual]
    return both_sides(lm, model, random_ids(307, (2, 11)), names)


@pytest.mark.parametrize("site", sites.SITES)
def test_sites_equal_what_pytorch_hooks_see(site: str, observed: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    if site not in observed:
        assert site == sites.RESID_MID
        return
    found, expected = observed[site]
    assert np.abs(expected).reshape(len(expected), -1).max(axis=1).min() > 0.01  # no layer is all but zero
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_site_that_a_parallel_residual_lacks_is_refused_and_never_wrong(neox_folder: Path) -> None:
    lm = epo_jax.load_model(str(neox_folder), dtype="float32")
    model = nnx.merge(lm.graphdef, lm.params)
    embeddings = model.embed(jnp.asarray(random_ids(307)))
    observer = sites.Observer((sites.RESID_MID,), lambda kept, _site, _layer, _value: kept)
    with pytest.raises(epo_jax.EpoError, match=r"hook_resid_mid: this model has no such site.*parallel residual"):
        jax.jit(lambda x: model(x, observer, jnp.zeros(()))[1])(embeddings)


@pytest.mark.parametrize("name", ["parallel residual", "sequential residual", "everything"])
def test_token_gradients_equal_autograd(name: str, tmp_path: Path, save_neox: Save) -> None:
    model = save_neox(tmp_path, **CONFIGS[name])
    lm = epo_jax.load_model(str(tmp_path), dtype="float32")
    ids = random_ids(260, (4, 7)).astype(np.int32)
    token = lm.tokenizer.decode([65])
    for text, oracle in (("L1.N7", "L1.N7"), (f"logit:{token}", "token 65")):
        feature = epo_jax.parse_feature(text, lm)
        value, cross_entropy = torch_oracle.scores_of_ids(model, oracle, ids)
        scores = epo_jax.score(lm, feature, ids)
        np.testing.assert_allclose(scores.feature, value, rtol=0, atol=1e-4)
        np.testing.assert_allclose(scores.cross_entropy, cross_entropy, rtol=0, atol=1e-4)
        for penalty in (0.0, 1.0, np.asarray([3.0, 0.1, 10.0, 1.0])):
            found = np.asarray(epo_jax.token_gradients(lm, feature, ids, penalty))
            expected = torch_oracle.gradients(model, oracle, ids, penalty)
            assert found.shape == expected.shape == (4, 7, lm.config.vocab_size)
            difference = np.linalg.norm((found - expected).reshape(4, -1), axis=1)
            assert (difference / np.linalg.norm(expected.reshape(4, -1), axis=1)).max() < 1e-4
