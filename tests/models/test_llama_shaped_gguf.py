"""GGUF files of the families of Llama's shape give the logits of the folders that they were written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf_models
import numpy as np
import pytest
import tiny_models
from checking.sites import torch_logits
from family_configs import FACTORS, LLAMA3, YARN, rope
from parity import assert_same_logits, random_ids
from spoiling import change_tensors, refusal

import epo_jax

ALL_OF_YARN = {"beta_fast": 4.0, "beta_slow": 0.5, "attention_factor": 1.3}
LONGROPE = rope("longrope", **FACTORS)
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, positions scaled linearly": ("llama", {**rope("linear", factor=3.0), "num_key_value_heads": 1}),
    "llama, positions as in Llama 3": ("llama", {**LLAMA3, "tie_word_embeddings": True}),
    "llama, YaRN": ("llama", {**YARN, "attention_bias": True, "mlp_bias": True}),
    "llama, YaRN with all settings": (
        "llama",
        rope("yarn", factor=4.0, original_max_position_embeddings=16, **ALL_OF_YARN),
    ),
    "mistral, without a window": ("mistral", {"sliding_window": None, "head_dim": 14}),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 4, "num_hidden_layers": 5}),
    "smollm3, tied, biases, as in Llama 3": (
        "smollm3",
        {
            "no_rope_layer_interval": 4,
            "num_hidden_layers": 4,
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
            **LLAMA3,
        },
    ),
    "qwen2": ("qwen2", {"num_key_value_heads": 3}),
    "qwen2, tied, YaRN": ("qwen2", {"tie_word_embeddings": True, **YARN}),
    "qwen3": ("qwen3", {}),
    "qwen3, tied, biases, positions scaled linearly": (
        "qwen3",
        {"tie_word_embeddings": True, "attention_bias": True, **rope("linear", factor=2.0)},
    ),
    "phi3": ("phi3", {}),
    "phi3, a window, a share of each head turns": (
        "phi3",
        {"sliding_window": 5, **rope("default", partial_rotary_factor=0.7)},
    ),
    "phi3, LongRoPE, tied": (
        "phi3",
        {**LONGROPE, "original_max_position_embeddings": 32, "tie_word_embeddings": True},
    ),
    "olmo2": ("olmo2", {"rms_norm_eps": 0.01}),
    "olmo2, grouped attention, other base": ("olmo2", {"num_key_value_heads": 1, **rope("default", 70.0)}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_gguf_gives_the_logits_of_the_folder(name: str, tmp_path: Path) -> None:
    family, changes = CONFIGS[name]
    model = tiny_models.save(tmp_path, family, **changes)
    assert_same_logits(gguf_models.write(tmp_path, family), model)


def test_an_old_name_of_the_linear_factor_and_a_factor_without_a_type_are_read(tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, "llama", **rope("linear", factor=3.0))
    unnamed = gguf_models.write(tmp_path, "llama", drop=("llama.rope.scaling.type",))
    assert_same_logits(unnamed, model)
    drop = ("llama.rope.scaling.type", "llama.rope.scaling.factor")
    assert_same_logits(gguf_models.write(tmp_path, "llama", drop=drop, llama__rope__scale_linear=3.0), model)


def test_an_attention_factor_comes_on_top_of_yarns_own(tmp_path: Path) -> None:
    settings = {"factor": 4.0, "original_max_position_embeddings": 16}
    magnitude = (1 + 0.1 * np.log(4.0)) * 1.25
    model = tiny_models.save(tmp_path, "llama", **rope("yarn", attention_factor=magnitude, **settings))
    key = "llama.rope.scaling.yarn_attn_factor"
    assert_same_logits(gguf_models.write(tmp_path, "llama", (key,), llama__rope__scaling__attn_factor=1.25), model)


def test_a_multiplier_of_yarns_logarithm_stands_for_both_of_its_scales(tmp_path: Path) -> None:
    settings = {"factor": 4.0, "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 0.5}
    model = tiny_models.save(tmp_path, "llama", **rope("yarn", **settings))
    assert_same_logits(gguf_models.write(tmp_path, "llama", llama__rope__scaling__yarn_log_multiplier=0.5), model)


def test_a_windows_value_in_a_file_of_phi_3_is_read(tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, "phi3")
    path = gguf_models.write(tmp_path, "phi3", phi3__attention__sliding_window=3)
    lm = epo_jax.load_model(str(path), dtype="float32")
    assert lm.config.windows == (3, 3, 3)
    ids = random_ids(307)
    assert np.abs(epo_jax.logits(lm, ids) - torch_logits(model, ids)).max() > 0.05


def test_the_context_of_a_longrope_file_ends_where_its_factors_change(tmp_path: Path) -> None:
    tiny_models.save(tmp_path, "phi3", **LONGROPE, original_max_position_embeddings=32)
    lm = epo_jax.load_model(str(gguf_models.write(tmp_path, "phi3")), dtype="float32")
    assert lm.config.max_positions == 32


@pytest.mark.parametrize(
    ("family", "changes", "drop", "says"),
    [
        ("qwen2", {"qwen2__attention__sliding_window": 4}, (), "qwen2.attention.sliding_window"),
        ("qwen3", {"qwen3__pooling_type": 4}, (), "qwen3.pooling_type"),
        ("olmo2", {"olmo2__attention__sliding_window": 4}, (), "olmo2.attention.sliding_window"),
        ("olmo2", {}, ("olmo2.attention.layer_norm_rms_epsilon",), "lacks olmo2.attention.layer_norm_rms_epsilon"),
        ("phi3", {"phi3__attention__sliding_window": "all"}, (), "sliding_window='all'"),
        ("phi3", {"phi3__rope__scaling__type": "longrope"}, (), "lacks short_factor"),
        ("phi3", {"phi3__rope__dimension_count": 8}, (), "dimension_count=8"),
        ("smollm3", {"smollm3__rope__dimension_count": 4}, (), "smollm3.rope.dimension_count=4"),
        ("qwen3", {"qwen3__attention__value_length": 8}, (), "value_length=8"),
        ("llama", {"llama__rope__scaling__factor": 0.0}, (), "factor=0.0"),
        ("llama", {"llama__rope__scaling__attn_factor": -1.0}, (), "attn_factor=-1.0"),
        ("llama", {"llama__rope__scaling__type": "yarn"}, (), "factor=None"),
        (
            "llama",
            {
                "llama__rope__scaling__type": "yarn",
                "llama__rope__scaling__factor": 2.0,
                "llama__rope__scaling__yarn_ext_factor": 0.5,
            },
            (),
            "yarn_ext_factor=0.5",
        ),
        ("llama", {"llama__rope__scaling__alpha": 2.0}, (), "llama.rope.scaling.alpha"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(
    family: str, changes: dict[str, Any], drop: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    tiny_models.save(tmp_path, family)
    assert says in refusal(gguf_models.write(tmp_path, family, drop, **changes))


def test_factors_of_longrope_beside_another_scaling_are_refused(tmp_path: Path) -> None:
    tiny_models.save(tmp_path, "phi3", **LONGROPE, original_max_position_embeddings=32)
    path = gguf_models.write(tmp_path, "phi3", phi3__rope__scaling__type="linear", phi3__rope__scaling__factor=2.0)
    assert "of which longrope alone has the tensors" in refusal(path)


def test_biases_that_qwen_2_must_have_are_asked_for(tmp_path: Path) -> None:
    tiny_models.save(tmp_path, "qwen2")

    def change(tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if name.endswith(".bias")]:
            del tensors[name]

    change_tensors(tmp_path, change)
    assert "lacks blk.0.attn_k.bias" in refusal(gguf_models.write(tmp_path, "qwen2"))
