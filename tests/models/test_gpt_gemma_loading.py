"""Old files of GPT-2, GPT-J, Phi and Gemma load, and what cannot be read is one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from spoiling import assert_same_logits, change_config, change_tensors, refusal

Tensors = dict[str, np.ndarray]
SUMMARY = {
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}
PATTERN = ["sliding_attention", "full_attention"]


# What the published config.json files say beside sizes, and what they do not say.
@pytest.mark.parametrize(
    ("family", "settings", "drop", "old"),
    [
        (
            "gpt2",
            {"n_inner": 144},
            ("n_inner", "scale_attn_weights", "reorder_and_upcast_attn", "tie_word_embeddings", "add_cross_attention"),
            {**SUMMARY, "n_ctx": 64, "_num_labels": 1, "gradient_checkpointing": False, "attn_pdrop": 0.1},
        ),
        ("gpt_j", {}, (), {**SUMMARY, "rotary": True, "scale_attn_weights": True, "gradient_checkpointing": False}),
        (
            "phi",
            {"rope_parameters": {"rope_theta": 70.0, "partial_rotary_factor": 0.34}},
            ("rope_parameters", "num_key_value_heads"),
            {"partial_rotary_factor": 0.34, "rope_theta": 70.0, "rope_scaling": None, "torch_dtype": "float16"},
        ),
        (
            "gemma",
            {"rope_parameters": {"rope_theta": 70.0}},
            ("rope_parameters", "use_bidirectional_attention", "tie_word_embeddings"),
            {"hidden_act": "gelu", "hidden_activation": None, "rope_theta": 70.0, "rope_scaling": None},
        ),
        ("gemma", {}, (), {"hidden_activation": "gelu_pytorch_tanh", "use_bidirectional_attention": False}),
        (
            "gemma2",
            {"sliding_window": 3},
            ("layer_types", "rope_parameters", "use_bidirectional_attention"),
            {"hidden_act": "gelu_pytorch_tanh", "sliding_window_size": 3, "cache_implementation": "hybrid"},
        ),
        (
            "gemma3",
            {"layer_types": [*PATTERN, PATTERN[0]]},
            ("layer_types", "rope_parameters", "_sliding_window_pattern"),
            {"sliding_window_pattern": 2, "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None},
        ),
        (
            "gemma3",
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 300.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
                }
            },
            ("rope_parameters",),
            {
                "rope_theta": 300.0,
                "rope_local_base_freq": 20.0,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                "_sliding_window_pattern": 6,
                "cache_implementation": "hybrid",
            },
        ),
    ],
)
def test_old_spellings_load(
    family: str, settings: dict[str, Any], drop: tuple[str, ...], old: dict[str, object], tmp_path: Path
) -> None:
    model = tiny_models.save(tmp_path, family, **settings)
    change_config(tmp_path, drop=(*drop, "dtype"), **old)
    assert_same_logits(tmp_path, model)


def without_prefix(tensors: Tensors) -> None:
    for name in list(tensors):
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)


def with_buffers(prefix: str) -> Callable[[Tensors], None]:
    def add(tensors: Tensors) -> None:
        for layer in range(3):
            tensors[f"{prefix}h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 64, 64), np.bool_))
            tensors[f"{prefix}h.{layer}.attn.masked_bias"] = np.asarray(-1e9, np.float32)

    return add


@pytest.mark.parametrize("family", ["gpt2", "gpt_j"])
def test_masks_of_old_files_are_left_out(family: str, tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, family)
    change_tensors(tmp_path, with_buffers("transformer."))
    assert_same_logits(tmp_path, model)


def test_gpt2_without_the_prefix_of_names_loads(tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, "gpt2")
    change_tensors(tmp_path, without_prefix)
    change_tensors(tmp_path, with_buffers(""))
    assert_same_logits(tmp_path, model)


def test_gpt2_with_a_tensor_under_both_names_is_refused(tmp_path: Path) -> None:
    tiny_models.save(tmp_path, "gpt2")
    change_tensors(tmp_path, lambda tensors: tensors.update({"wpe.weight": tensors["transformer.wpe.weight"] + 1}))
    message = refusal(tmp_path)
    assert "transformer.wpe.weight" in message
    assert " wpe.weight" in message


@pytest.mark.parametrize(
    ("family", "embedding"),
    [
        ("gpt2", "transformer.wte.weight"),
        *((family, "model.embed_tokens.weight") for family in ("gemma", "gemma2", "gemma3")),
    ],
)
def test_tied_head_saved_twice_loads_if_it_is_the_embedding(family: str, embedding: str, tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, family)
    change_tensors(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors[embedding].copy()}))
    assert_same_logits(tmp_path, model)
    change_tensors(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors[embedding] + 1e-3}))
    assert f"lm_head.weight differs from {embedding}" in refusal(tmp_path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family, saved."""
    made = {family: tmp_path_factory.mktemp(family) for family in ("gpt2", "gpt_j", "phi", "gemma", "gemma2", "gemma3")}
    for family, folder in made.items():
        tiny_models.save(folder, family)
    return made


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        *((family, {"new_switch": True}, "new_switch") for family in ("gpt2", "gpt_j", "phi", "gemma2", "gemma3")),
        *((family, {"model_type": "llama"}, "'llama'") for family in ("gpt2", "phi", "gemma")),
        *((family, {"n_inner": 0}, "mlp_width=0") for family in ("gpt2", "gpt_j")),
        *((family, {"n_head": 5}, "5 heads do not divide the width 36") for family in ("gpt2", "gpt_j")),
        *((family, {"activation_function": "mish"}, "activation_function='mish'") for family in ("gpt2", "gpt_j")),
        *((family, {"hidden_activation": "mish"}, "hidden_activation='mish'") for family in ("gemma2", "gemma3")),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention=True"),
        ("gpt2", {"n_positions": 63}, "transformer.wpe.weight"),
        ("gpt2", {"tie_word_embeddings": False}, "lm_head.weight"),
        ("gpt_j", {"rotary": False}, "rotary=False"),
        ("gpt_j", {"scale_attn_weights": False}, "scale_attn_weights=False"),
        ("gpt_j", {"rotary_dim": 7}, "rotary_dim=7"),
        ("gpt_j", {"rotary_dim": 14}, "rotary_dim=14"),
        ("gpt_j", {"rotary_dim": 0}, "rotary_dim=0"),
        ("gpt_j", {"tie_word_embeddings": True}, "a tied head has no bias of its own"),
        ("phi", {"tie_word_embeddings": True}, "a tied head has no bias of its own"),
        ("phi", {"qk_layernorm": True}, "self_attn.q_layernorm"),
        ("phi", {"head_dim": 8}, "head_dim=8"),
        ("phi", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.1}}, "1 of a head's 12 components"),
        ("gemma", {"hidden_activation": "relu"}, "hidden_activation='relu'"),
        ("gemma", {"sliding_window": 4}, "sliding_window=4"),
        *((f, {"use_bidirectional_attention": True}, "use_bidirectional_attention=True") for f in ("gemma", "gemma2")),
        ("gemma2", {"hidden_act": "relu"}, "hidden_act='relu'"),
        ("gemma2", {"sliding_window_size": 4}, "sliding_window_size=4"),
        ("gemma2", {"sliding_window": None}, "sliding_window=None"),
        ("gemma2", {"sliding_window": 0}, "sliding_window=0"),
        ("gemma2", {"layer_types": ["chunked_attention"] * 3}, "chunked_attention"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_scale=0"),
        ("gemma2", {"query_pre_attn_scalar": None}, "query_pre_attn_scalar"),
        ("gemma2", {"attn_logit_softcapping": -1.0}, "attention_softcap=-1.0"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        ("gemma3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "object"),
        ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "new"}}}, "rope_type"),
    ],
)
def test_settings_that_are_not_implemented_are_refused_by_name(
    family: str, changes: dict[str, object], says: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folders[family] / name).read_bytes())
    change_config(tmp_path, **changes)
    assert says in refusal(tmp_path)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("gpt2", ("n_embd", "n_head", "n_layer", "n_positions", "vocab_size", "n_inner")),
        ("gpt_j", ("n_embd", "n_head", "n_layer", "vocab_size", "rotary_dim")),
        ("phi", ("hidden_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers", "vocab_size")),
        ("gemma", ("hidden_size", "head_dim", "num_key_value_heads", "num_hidden_layers", "intermediate_size")),
        ("gemma2", ("num_hidden_layers", "head_dim", "query_pre_attn_scalar", "vocab_size")),
        ("gemma3", ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")),
    ],
)
def test_impossible_sizes_are_refused_and_never_allocated(
    family: str, names: tuple[str, ...], folders: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folders[family] / name).read_bytes())
    for name in names:
        for value in (-1, 0, 2**40, 2**70, 1.5, "x", [], float("nan")):
            (tmp_path / "config.json").write_bytes((folders[family] / "config.json").read_bytes())
            change_config(tmp_path, **{name: value})
            if name == "query_pre_attn_scalar" and value in (2**40, 2**70, 1.5):
                continue  # it costs nothing
            refusal(tmp_path)


@pytest.mark.parametrize(
    ("family", "name", "shape"),
    [
        ("gpt2", "transformer.h.1.attn.c_attn.weight", (108, 36)),
        ("gpt2", "transformer.h.1.attn.c_attn.weight", ()),
        ("gpt2", "transformer.h.1.attn.c_attn.bias", (107,)),
        ("gpt2", "transformer.h.0.mlp.c_fc.weight", (53, 36)),
        ("gpt_j", "transformer.h.1.attn.q_proj.weight", (35, 36)),
        ("gpt_j", "transformer.h.1.attn.k_proj.weight", (18, 72)),
        ("gpt_j", "transformer.h.1.attn.k_proj.weight", (1296,)),
        ("gemma3", "model.layers.1.self_attn.q_norm.weight", (36,)),
        ("gemma2", "model.layers.1.post_feedforward_layernorm.weight", (35,)),
    ],
)
def test_wrong_shape_is_refused_by_name(
    family: str, name: str, shape: tuple[int, ...], folders: dict[str, Path], tmp_path: Path
) -> None:
    for each in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        (tmp_path / each).write_bytes((folders[family] / each).read_bytes())
    change_tensors(tmp_path, lambda tensors: tensors.update({name: np.zeros(shape, np.float32)}))
    message = refusal(tmp_path)
    assert name in message
    assert str(shape) in message
