"""Old spellings of the families of Llama's shape load; what the decoder does not implement is one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from family_configs import FULL, SLIDING, longrope
from parity import assert_same_logits, random_ids
from spoiling import change_config, change_tensors, outcome, refusal

import epo_jax

ROPE = "rope_parameters"
LONGROPE = {"short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0]}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}

# family, settings of transformers' today, attributes that old files lack, and what they have instead.
OLD: dict[str, tuple[str, dict[str, Any], tuple[str, ...], dict[str, Any]]] = {
    "Llama 2 with positions scaled linearly": (
        "llama",
        {ROPE: {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        ("head_dim",),
        {"rope_scaling": {"type": "linear", "factor": 2.0}, "temperature": 0.9, "max_length": 4096},
    ),
    "Llama 2 with YaRN": (
        "llama",
        {ROPE: {"rope_type": "yarn", "rope_theta": 10000.0, **YARN}},
        ("head_dim",),
        {"rope_scaling": {"type": "yarn", "finetuned": True, **YARN}, "torch_dtype": "float16"},
    ),
    "Llama 3.1": (
        "llama",
        {ROPE: {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}},
        ("head_dim",),
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3}, "rope_theta": 500000.0, "pretraining_tp": 1},
    ),
    "Mistral": (
        "mistral",
        {ROPE: {"rope_type": "default", "rope_theta": 70.0}},
        ("head_dim",),
        {"rope_theta": 70.0, "attention_bias": False, "_attn_implementation_autoset": True},
    ),
    "Qwen 2.5": (
        "qwen2",
        {ROPE: {"rope_type": "default", "rope_theta": 1000000.0}},
        ("layer_types",),
        {"rope_theta": 1000000.0, "sliding_window": 4, "use_sliding_window": False, "use_mrope": False},
    ),
    "Qwen 2 with windows": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
        ("layer_types",),
        {"rope_theta": 10000.0, "rope_scaling": None},
    ),
    "Qwen 3": (
        "qwen3",
        {ROPE: {"rope_type": "yarn", "rope_theta": 1000000, **YARN}},
        ("layer_types",),
        {"rope_theta": 1000000, "rope_scaling": {"type": "yarn", "rope_type": "yarn", **YARN}, "sliding_window": None},
    ),
    "Phi 3 mini": (
        "phi3",
        {"sliding_window": 5},
        (),
        {"rope_theta": 10000.0, "rope_scaling": None, "attention_bias": False, "auto_map": {"AutoConfig": "a.B"}},
    ),
    "Phi 4 mini": (
        "phi3",
        {
            ROPE: {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75, **LONGROPE},
            "original_max_position_embeddings": 32,
        },
        (),
        {
            "rope_scaling": {"type": "longrope", **LONGROPE},
            "partial_rotary_factor": 0.75,
            "mlp_bias": False,
            "lm_head_bias": False,
            "full_attn_mod": 1,
            "interpolate_factor": 1,
        },
    ),
    "OLMo 2": (
        "olmo2",
        {ROPE: {"rope_type": "default", "rope_theta": 500000.0}},
        (),
        {"rope_theta": 500000, "rope_scaling": None},
    ),
    "SmolLM 3": (
        "smollm3",
        {ROPE: {"rope_type": "default", "rope_theta": 5000000.0}},
        ("layer_types", "no_rope_layers"),
        {"rope_theta": 5000000.0, "rope_scaling": None, "max_window_layers": 28, "pretraining_tp": 2},
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_old_spellings_load(name: str, tmp_path: Path) -> None:
    family, today, drop, old = OLD[name]
    model = tiny_models.save(tmp_path, family, **today)
    change_config(tmp_path, drop=(ROPE, "dtype", *drop), **old)
    assert_same_logits(tmp_path, model)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("mistral", {"sliding_window": 0}, "sliding_window=0"),
    ("mistral", {"sliding_window": "all"}, "sliding_window"),
    ("mistral", {"layer_types": [FULL] * 3}, "'ministral'"),
    ("mistral", {"attention_bias": True}, "attention_bias=True"),
    ("mistral", {"head_dim": 0}, "head_dim=0"),
    ("qwen2", {"use_mrope": True}, "use_mrope=True"),
    ("qwen2", {"attention_bias": True}, "attention_bias=True"),
    ("qwen2", {"layer_types": [SLIDING, FULL, FULL]}, "sliding_window=None"),
    ("qwen2", {"layer_types": [FULL, FULL]}, "layer_types"),
    ("qwen2", {"layer_types": [FULL, "chunked_attention", FULL]}, "chunked_attention"),
    ("qwen2", {"layer_types": FULL}, "layer_types"),
    ("qwen2", {"hidden_act": "mish"}, "hidden_act='mish'"),
    ("qwen3", {"use_sliding_window": True, "sliding_window": -1, "layer_types": [SLIDING] * 3}, "sliding_window=-1"),
    ("qwen3", {"num_key_value_heads": 4}, "do not divide"),
    ("qwen3", {"mlp_bias": True}, "mlp_bias=True"),
    ("phi3", {"lm_head_bias": True}, "lm_head_bias=True"),
    ("phi3", {"full_attn_mod": 2}, "full_attn_mod=2"),
    ("phi3", {"sliding_window": False}, "sliding_window"),
    ("phi3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("phi3", {ROPE: {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "longrope"),
    ("phi3", {"head_dim": 7}, " even "),
    ("olmo2", {"clip_qkv": 8.0}, "clip_qkv"),
    ("olmo2", {"rms_norm_eps": "small"}, "rms_norm_eps"),
    ("olmo2", {"model_type": "olmo"}, "'olmo'"),
    ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
    ("smollm3", {"no_rope_layers": [1, 0, 2]}, "no_rope_layers"),
    ("smollm3", {"layer_types": [FULL, SLIDING, FULL], "sliding_window": 4}, "sliding_window=None"),
    ("smollm3", {"use_sliding_window": True, "layer_types": [FULL, SLIDING, FULL]}, "sliding_window=None"),
    ("smollm3", {"attention_bias": "yes"}, "attention_bias"),
]


@pytest.mark.parametrize(("family", "changes", "says"), REFUSED)
def test_configs_that_cannot_be_used_are_refused(
    family: str, changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    tiny_models.save(tmp_path, family)
    change_config(tmp_path, **changes)
    assert says in refusal(tmp_path)


@pytest.mark.parametrize(
    ("family", "tensor", "shape"),
    [
        ("phi3", "model.layers.1.self_attn.qkv_proj.weight", (71, 36)),
        ("phi3", "model.layers.1.self_attn.qkv_proj.weight", (36, 72)),
        ("phi3", "model.layers.2.mlp.gate_up_proj.weight", (53, 36)),
        ("phi3", "model.layers.2.mlp.gate_up_proj.weight", ()),
        ("qwen3", "model.layers.0.self_attn.q_norm.weight", (60,)),
        ("olmo2", "model.layers.0.self_attn.k_norm.weight", (6,)),
        ("qwen2", "model.layers.0.self_attn.v_proj.bias", (36,)),
    ],
)
def test_wrong_shape_is_refused_by_name(family: str, tensor: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    tiny_models.save(tmp_path, family)
    change_tensors(tmp_path, lambda tensors: tensors.update({tensor: np.zeros(shape, np.float32)}))
    message = refusal(tmp_path)
    assert tensor in message
    assert str(shape) in message


@pytest.mark.parametrize(
    ("family", "missing", "extra"),
    [
        ("phi3", "model.layers.1.self_attn.qkv_proj.weight", "model.layers.1.self_attn.q_proj.weight"),
        ("qwen2", "model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.o_proj.bias"),
        ("qwen3", "model.layers.2.self_attn.k_norm.weight", "model.layers.2.self_attn.v_norm.weight"),
        ("olmo2", "model.layers.2.post_feedforward_layernorm.weight", "model.layers.2.input_layernorm.weight"),
        ("smollm3", "model.layers.0.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"),
        ("mistral", "lm_head.weight", "model.layers.0.self_attn.k_proj.bias"),
    ],
)
def test_missing_and_extra_tensors_are_named(family: str, missing: str, extra: str, tmp_path: Path) -> None:
    tiny_models.save(tmp_path, family, tie_word_embeddings=False)

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[extra] = tensors.pop(missing)

    change_tensors(tmp_path, change)
    message = refusal(tmp_path)
    assert f"lacks {missing}" in message
    assert extra in message.partition("does not take")[2]


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "phi3", "olmo2", "smollm3"])
def test_a_tied_head_that_is_saved_beside_the_embedding_and_old_frequencies_load(family: str, tmp_path: Path) -> None:
    tiny_models.save(tmp_path, family, tie_word_embeddings=True)

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(3, np.float32)

    change_tensors(tmp_path, change)
    assert outcome(tmp_path) == ""
    change_tensors(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"] + 1}))
    assert "lm_head.weight differs from model.embed_tokens.weight" in refusal(tmp_path)


def test_sequences_beyond_those_that_a_scaling_holds_for_are_refused(tmp_path: Path) -> None:
    # LongRoPE has other factors from there on.
    tiny_models.save(tmp_path, "phi3", **longrope())
    lm = epo_jax.load_model(str(tmp_path), dtype="float32")
    assert epo_jax.logits(lm, random_ids(307, (1, 32))).shape == (1, 32, 307)
    with pytest.raises(epo_jax.EpoError, match="33 tokens are more than the 32"):
        epo_jax.logits(lm, random_ids(307, (1, 33)))


def test_unsupported_architecture_lists_the_families(tmp_path: Path) -> None:
    tiny_models.save(tmp_path, "qwen2")
    change_config(tmp_path, architectures=["Qwen2ForSequenceClassification"])
    with pytest.raises(epo_jax.EpoError, match=r"supported are: .*MistralForCausalLM.*Qwen2ForCausalLM"):
        epo_jax.load_model(str(tmp_path))
