"""The families of Llama's shape against PyTorch: logits, every named site, token gradients and half precision."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from checking.sites import torch_logits
from family_checks import assert_half_precision, assert_same_gradients, assert_same_sites
from parity import assert_same_logits, random_ids
from suffix_agreement import assert_suffix_only_agrees

import epo_jax

FAMILIES = ("mistral", "qwen2", "qwen3", "phi3", "olmo2", "smollm3")


def rope(kind: str, theta: float = 300.0, **settings: object) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **settings}}


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=16)
SHORT, LONG = [1.0, 1.5, 3.0], [2.0, 4.0, 8.0]
LONGROPE = {
    "original_max_position_embeddings": 32,
    **rope("longrope", short_factor=SHORT, long_factor=LONG, original_max_position_embeddings=32),
}
SLIDING, FULL = "sliding_attention", "full_attention"
WINDOWED = {"use_sliding_window": True, "sliding_window": 4}
ODD = {"vocab_size": 401, "hidden_size": 50, "num_attention_heads": 5, "num_key_value_heads": 5}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, positions scaled linearly": ("llama", rope("linear", factor=3.0)),
    "llama, positions as in Llama 3": ("llama", LLAMA3),
    "llama, YaRN": ("llama", YARN),
    "llama, YaRN with all settings": (
        "llama",
        rope(
            "yarn",
            factor=4.0,
            original_max_position_embeddings=16,
            beta_fast=4.0,
            beta_slow=0.5,
            mscale=1.0,
            mscale_all_dim=0.5,
            truncate=False,
        ),
    ),
    "llama, dynamic": ("llama", rope("dynamic", factor=2.0)),
    "mistral, without a window": ("mistral", {"sliding_window": None}),
    "mistral, a window of one token": ("mistral", {"sliding_window": 1}),
    "mistral, wide heads, tied": ("mistral", {"head_dim": 20, "tie_word_embeddings": True}),
    "mistral, odd sizes": ("mistral", ODD),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True, "rms_norm_eps": 0.1}),
    "qwen2, odd sizes": ("qwen2", {**ODD, "hidden_act": "gelu_pytorch_tanh"}),
    "qwen2, windows from a layer on": ("qwen2", {**WINDOWED, "max_window_layers": 1}),
    "qwen2, windows in layers that are named": ("qwen2", {**WINDOWED, "layer_types": [SLIDING, FULL, SLIDING]}),
    "qwen2, YaRN": ("qwen2", YARN),
    "qwen3, tied, biases": ("qwen3", {"tie_word_embeddings": True, "attention_bias": True}),
    "qwen3, odd sizes": ("qwen3", {**ODD, "head_dim": 6, **rope("default", 70.0)}),
    "qwen3, windows in layers that are named": ("qwen3", {**WINDOWED, "layer_types": [FULL, SLIDING, FULL]}),
    "phi3, plain": ("phi3", {}),
    "phi3, a window, tied": ("phi3", {"sliding_window": 5, "tie_word_embeddings": True}),
    "phi3, LongRoPE": ("phi3", LONGROPE),
    "phi3, a share of each head turns": ("phi3", rope("default", partial_rotary_factor=0.7)),
    "phi3, odd sizes": ("phi3", {**ODD, "num_key_value_heads": 1, "intermediate_size": 31}),
    "olmo2, plain": ("olmo2", {}),
    "olmo2, tied, biases": ("olmo2", {"tie_word_embeddings": True, "attention_bias": True}),
    "olmo2, odd sizes": ("olmo2", {**ODD, "rms_norm_eps": 0.1}),
    "smollm3, every second layer still": ("smollm3", {}),
    "smollm3, no layer still": ("smollm3", {"no_rope_layers": [1, 1, 1], **rope("default", 70.0)}),
    "smollm3, every layer still": ("smollm3", {"no_rope_layers": [0, 0, 0]}),
    "smollm3, windows in still layers, tied": ("smollm3", {**WINDOWED, "tie_word_embeddings": True}),
    "smollm3, windows in layers that are named": (
        "smollm3",
        {**WINDOWED, "layer_types": [SLIDING, SLIDING, FULL], **YARN},
    ),
    "smollm3, biases": ("smollm3", {"attention_bias": True, "mlp_bias": True}),
}
# One configuration of each family with as many switches as go together.
EVERYTHING: dict[str, dict[str, Any]] = {
    "mistral": {"head_dim": 14, "sliding_window": 4, "rms_norm_eps": 0.01, **LLAMA3},
    "qwen2": {**WINDOWED, "layer_types": [FULL, SLIDING, SLIDING], "num_key_value_heads": 3},
    "qwen3": {**WINDOWED, "layer_types": [SLIDING, FULL, SLIDING], "attention_bias": True, **YARN},
    "phi3": {"sliding_window": 4, "hidden_size": 48, **LONGROPE, "tie_word_embeddings": True},
    "olmo2": {"attention_bias": True, "rms_norm_eps": 0.01, **rope("linear", factor=2.0)},
    "smollm3": {**WINDOWED, "attention_bias": True, "mlp_bias": True, "num_hidden_layers": 4},
}
EVERYTHING["phi3"]["rope_parameters"] = {**LONGROPE["rope_parameters"], "partial_rotary_factor": 0.75}
# What is the family's own model, or changes nothing in sequences as short as these.
SAME = ("phi3, plain", "olmo2, plain", "smollm3, every second layer still", "llama, dynamic")


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_pytorch_and_each_setting_changes_them(name: str, tmp_path: Path) -> None:
    family, changes = CONFIGS[name]
    model = tiny_models.save(tmp_path / "model", family, **changes)
    assert_same_logits(tmp_path / "model", model)
    plain = tiny_models.save(tmp_path / "plain", family)
    # Many settings leave the weights as they are, so a decoder that ignored one would be wrong by this much.
    ids = random_ids(307)
    difference = np.abs(torch_logits(model, ids)[..., :307] - torch_logits(plain, ids)).max()
    assert difference > 0.05 or (name in SAME and difference == 0)


@pytest.fixture(scope="module", params=FAMILIES)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A model of each family with everything switched on: its folder, and PyTorch's."""
    folder = tmp_path_factory.mktemp(request.param)
    return folder, tiny_models.save(folder, request.param, **EVERYTHING[request.param])


def test_sites_equal_what_pytorch_hooks_see(full: tuple[Path, torch.nn.Module]) -> None:
    assert_same_sites(full[0], copy.deepcopy(full[1]))


@pytest.mark.parametrize("feature", ["token 65", pytest.param("L1.N7", marks=pytest.mark.slow)])
def test_scores_and_token_gradients_equal_pytorch(feature: str, full: tuple[Path, torch.nn.Module]) -> None:
    assert_same_gradients(*full, feature)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("qwen2", "qwen3", "phi3")]


@pytest.mark.parametrize("family", ["mistral", "olmo2", "smollm3", *SLOW])
def test_candidates_score_as_when_run_whole(family: str, tmp_path: Path) -> None:
    # Windows are of 4 tokens: prefix, optimized tokens and suffix are all longer.
    tiny_models.save(tmp_path, family, **EVERYTHING[family])
    lm = epo_jax.load_model(str(tmp_path), dtype="float32")
    assert_suffix_only_agrees(lm, ("L0.N1", "L1.N7", "L2.N3"), [0, 5, 9, 4, 77], [7, 33, 120, 8, 1])


def test_half_precision_is_as_close_as_its_rounding(full: tuple[Path, torch.nn.Module]) -> None:
    assert_half_precision(full[0], copy.deepcopy(full[1]), "bfloat16", 0.03)


def test_sequences_beyond_those_that_a_scaling_holds_for_are_refused(tmp_path: Path) -> None:
    # LongRoPE has other factors from there on.
    tiny_models.save(tmp_path, "phi3", **LONGROPE)
    lm = epo_jax.load_model(str(tmp_path), dtype="float32")
    assert epo_jax.logits(lm, random_ids(307, (1, 32))).shape == (1, 32, 307)
    with pytest.raises(epo_jax.EpoError, match="33 tokens are more than the 32"):
        epo_jax.logits(lm, random_ids(307, (1, 33)))
