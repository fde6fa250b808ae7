"""The decoder against PyTorch's Llama: logits and every named site."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from checking.sites import both_sides, torch_logits
from parity import assert_dtypes, assert_same_logits, random_ids, round_parameters
from safetensors.torch import load_file, save_file

import epo_jax
from epo_jax.models import decoder as sites

Save = Callable[..., torch.nn.Module]

EVERYTHING = {
    "hidden_size": 30,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 14,
    "intermediate_size": 41,
    "num_hidden_layers": 4,
    "tie_word_embeddings": True,
    "attention_bias": True,
    "mlp_bias": True,
    "hidden_act": "gelu",
    "rope_parameters": {"rope_type": "default", "rope_theta": 321.0},
    "rms_norm_eps": 0.01,
}
CONFIGS = {
    "full attention": {},
    "grouped attention": {"num_attention_heads": 6, "num_key_value_heads": 2},
    "single-query attention": {"num_attention_heads": 6, "num_key_value_heads": 1},
    "tied head": {"tie_word_embeddings": True},
    "attention biases": {"attention_bias": True, "num_attention_heads": 6, "num_key_value_heads": 3},
    "MLP biases": {"mlp_bias": True},
    "odd sizes": {"vocab_size": 401, "hidden_size": 50, "num_attention_heads": 5, "num_key_value_heads": 5},
    "one layer, one neuron": {"num_hidden_layers": 1, "intermediate_size": 1},
    "wide heads": {"head_dim": 20},
    "narrow heads": {"head_dim": 2},
    "small rotary base": {"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}},
    "large rotary base": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}},
    "relu": {"hidden_act": "relu"},
    "gelu": {"hidden_act": "gelu"},
    "gelu_pytorch_tanh": {"hidden_act": "gelu_pytorch_tanh"},
    "large norm_eps": {"rms_norm_eps": 0.3},
    "everything": EVERYTHING,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_pytorch(name: str, tmp_path: Path, save_llama: Save) -> None:
    assert_same_logits(tmp_path, save_llama(tmp_path, **CONFIGS[name]))


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - {"full attention", "one layer, one neuron", "odd sizes"}))
def test_each_setting_changes_the_logits(name: str, save_llama: Save, tmp_path: Path) -> None:
    # A setting that the decoder ignored would go unseen if it made no difference here.
    plain = epo_jax.load_model(_saved(save_llama, tmp_path / "plain"), dtype="float32")
    other = epo_jax.load_model(_saved(save_llama, tmp_path / "other", **CONFIGS[name]), dtype="float32")
    ids = random_ids(307)
    assert np.abs(epo_jax.logits(plain, ids) - epo_jax.logits(other, ids)).max() > 0.05


def test_shards_load_as_one_file_does(tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_same_logits(tmp_path, model)


def test_tied_head_saved_twice_loads(tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path, tie_word_embeddings=True)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_same_logits(tmp_path, model)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_stored_float_type_load(stored: torch.dtype, tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(stored).to(torch.float32)
    tensors = {name: tensor.to(stored) for name, tensor in model.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_same_logits(tmp_path, model)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.004), ("bfloat16", 0.03)])
def test_half_precision_is_as_close_as_its_rounding(
    dtype: str, tolerance: float, tmp_path: Path, save_llama: Save
) -> None:
    model = save_llama(tmp_path, num_attention_heads=6, num_key_value_heads=2, attention_bias=True, mlp_bias=True)
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


def test_later_tokens_change_nothing_before_them(tiny: epo_jax.LanguageModel) -> None:
    ids = random_ids(307, (1, 12))
    changed = ids.copy()
    changed[0, 7:] = (changed[0, 7:] + 5) % 307
    before, after = epo_jax.logits(tiny, ids), epo_jax.logits(tiny, changed)
    np.testing.assert_array_equal(before[0, :7], after[0, :7])
    assert (np.abs(before[0, 7:] - after[0, 7:]).max(axis=-1) > 1e-3).all()


@pytest.fixture(scope="module", params=["everything", "grouped attention"])
def observed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, save_llama: Save
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Site -> its values [L, B, S, ...] here and in PyTorch."""
    folder = tmp_path_factory.mktemp("sites")
    save_llama(folder, **CONFIGS[request.param])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    lm = epo_jax.load_model(str(folder), dtype="float32")
    ids = random_ids(307, (2, 11))
    return both_sides(lm, model, ids, sites.SITES)


@pytest.mark.parametrize("site", sites.SITES)
def test_sites_equal_what_pytorch_hooks_see(site: str, observed: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    found, expected = observed[site]
    assert np.abs(expected).reshape(len(expected), -1).max(axis=1).min() > 0.01  # no layer is all but zero
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_layers_of_a_site_differ(observed: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    # Values of the wrong layer would be far from the right ones.
    for _, expected in observed.values():
        assert all(np.abs(one - other).max() > 0.01 for one, other in itertools.pairwise(expected))


def _saved(save_llama: Save, folder: Path, **changes: object) -> str:
    save_llama(folder, **changes)
    return str(folder)


PROMPTS = (
    "The quick brown fox jumps over the lazy dog and runs away from the bear.",
    "def main():\n    print('hello',  42)\n",
    "<|im_start|>user\nWas ist 12 + 30? Ünïcödé 🙂<|im_end|>",
    " the",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_embedded_model_gives_pytorchs_logits(
    prompt: str, lm: epo_jax.LanguageModel, torch_lm: torch.nn.Module
) -> None:
    ids = np.asarray([lm.tokenizer.encode(prompt, add_special_tokens=False)])
    np.testing.assert_allclose(epo_jax.logits(lm, ids), torch_logits(torch_lm, ids), rtol=0, atol=2e-3)


def test_embedded_model_scores_english_as_known(lm: epo_jax.LanguageModel) -> None:
    ids = lm.tokenizer.encode(PROMPTS[0], add_special_tokens=False)
    assert len(ids) == 16
    found = epo_jax.score(lm, epo_jax.parse_feature("L10.N5", lm), [ids])
    assert found.cross_entropy[0] == pytest.approx(3.7509, abs=0.001)


def test_embedded_model_continues_with_paris(lm: epo_jax.LanguageModel) -> None:
    ids = lm.tokenizer.encode("The capital of France is", add_special_tokens=False)
    start, length = len(ids), len(ids) + 4
    for position in range(start, length):
        # What stands after the last token is not seen by it, so one shape serves every step.
        padded = np.zeros((1, length), np.int32)
        padded[0, :position] = ids
        ids.append(int(epo_jax.logits(lm, padded)[0, position - 1].argmax()))
    assert lm.tokenizer.decode(ids[start:]).startswith(" Paris.")
