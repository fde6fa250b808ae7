"""Configurations of tiny models of every family: each setting by itself, and then as many as go together.

They are what a model has beside or instead of what tiny_models says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]
# The family's own model, and the one with as many settings changed as go together.
PLAIN, EVERYTHING = "as it is", "everything"
SLIDING, FULL = "sliding_attention", "full_attention"
WINDOWED = {"use_sliding_window": True, "sliding_window": 4}
ODD = {"vocab_size": 401, "hidden_size": 50, "num_attention_heads": 5, "num_key_value_heads": 5}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


def rope(kind: str = "default", theta: float = 300.0, **settings: object) -> dict[str, Any]:
    """How positions turn heads."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **settings}}


def share(part: float, theta: float = 10000.0, kind: str = "default", **settings: object) -> dict[str, Any]:
    """The same where only a part of each head turns."""
    return rope(kind, theta, partial_rotary_factor=part, **settings)


def bases(full: float = 1e6, sliding: float = 1e4, **scaling: object) -> dict[str, Any]:
    """The same for the two types of layers of Gemma 3."""
    kinds = {FULL: {"rope_type": "default", "rope_theta": full, **scaling}}
    return {"rope_parameters": {**kinds, SLIDING: {"rope_type": "default", "rope_theta": sliding}}}


LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=16)
YARN_IN_ALL = rope(
    "yarn",
    factor=4.0,
    original_max_position_embeddings=16,
    beta_fast=4.0,
    beta_slow=0.5,
    mscale=1.0,
    mscale_all_dim=0.5,
    truncate=False,
)
FACTORS = {"short_factor": [1.0, 1.5, 3.0], "long_factor": [2.0, 4.0, 8.0]}


def longrope(**settings: object) -> dict[str, Any]:
    """Positions as LongRoPE turns them, up to 32 tokens."""
    length = {"original_max_position_embeddings": 32}
    return {**length, **rope("longrope", **FACTORS, **length, **settings)}


ODD_GEMMA = {
    "hidden_size": 35,
    "intermediate_size": 41,
    "num_hidden_layers": 4,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "head_dim": 6,
    "vocab_size": 311,
    "attention_bias": True,
    "rms_norm_eps": 0.01,
    **UNTIED,
}
GEMMA_WINDOWED: Mapping[str, Settings] = {
    "another scale of scores": {"query_pre_attn_scalar": 3},
    "a logit cap": {"final_logit_softcapping": 2.0},
    "another activation": {"hidden_activation": "relu"},
    "a window of one": {"sliding_window": 1},
    "a window longer than the sequence": {"sliding_window": 40},
    "all layers full": {"layer_types": [FULL] * 3},
    "all layers sliding": {"layer_types": [SLIDING] * 3},
    "other layers sliding": {"layer_types": [FULL, SLIDING, SLIDING]},
}
CONFIGS: Mapping[str, Mapping[str, Settings]] = {
    "llama": {
        PLAIN: {},
        "grouped attention": {"num_attention_heads": 6, "num_key_value_heads": 2},
        "single-query attention": {"num_attention_heads": 6, "num_key_value_heads": 1},
        "tied head": TIED,
        "attention biases": {"attention_bias": True, "num_attention_heads": 6, "num_key_value_heads": 3},
        "MLP biases": {"mlp_bias": True},
        "odd sizes": ODD,
        "one layer, one neuron": {"num_hidden_layers": 1, "intermediate_size": 1},
        "wide heads": {"head_dim": 20},
        "narrow heads": {"head_dim": 2},
        "small rotary base": rope("default", 7.0),
        "large rotary base": rope("default", 5e6),
        "relu": {"hidden_act": "relu"},
        "gelu": {"hidden_act": "gelu"},
        "gelu_pytorch_tanh": {"hidden_act": "gelu_pytorch_tanh"},
        "large epsilon": {"rms_norm_eps": 0.3},
        "positions scaled linearly": rope("linear", factor=3.0),
        "positions as in Llama 3": LLAMA3,
        "YaRN": YARN,
        "YaRN with all settings": YARN_IN_ALL,
        "dynamic": rope("dynamic", factor=2.0),
        EVERYTHING: {
            "hidden_size": 30,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 14,
            "intermediate_size": 41,
            "num_hidden_layers": 4,
            "attention_bias": True,
            "mlp_bias": True,
            "hidden_act": "gelu",
            "rms_norm_eps": 0.01,
            **TIED,
            **rope("default", 321.0),
        },
    },
    "mistral": {
        PLAIN: {},
        "without a window": {"sliding_window": None},
        "a window of one token": {"sliding_window": 1},
        "wide heads, tied": {"head_dim": 20, **TIED},
        "odd sizes": ODD,
        EVERYTHING: {"head_dim": 14, "sliding_window": 4, "rms_norm_eps": 0.01, **LLAMA3},
    },
    "qwen2": {
        PLAIN: {},
        "tied": {"rms_norm_eps": 0.1, **TIED},
        "odd sizes": {**ODD, "hidden_act": "gelu_pytorch_tanh"},
        "windows from a layer on": {**WINDOWED, "max_window_layers": 1},
        "windows in layers that are named": {**WINDOWED, "layer_types": [SLIDING, FULL, SLIDING]},
        "YaRN": YARN,
        EVERYTHING: {**WINDOWED, "layer_types": [FULL, SLIDING, SLIDING], "num_key_value_heads": 3},
    },
    "qwen3": {
        PLAIN: {},
        "tied, biases": {"attention_bias": True, **TIED},
        "odd sizes": {**ODD, "head_dim": 6, **rope("default", 70.0)},
        "windows in layers that are named": {**WINDOWED, "layer_types": [FULL, SLIDING, FULL]},
        EVERYTHING: {**WINDOWED, "layer_types": [SLIDING, FULL, SLIDING], "attention_bias": True, **YARN},
    },
    "phi3": {
        PLAIN: {},
        "a window, tied": {"sliding_window": 5, **TIED},
        "LongRoPE": longrope(),
        "a share of each head turns": share(0.7, 300.0),
        "odd sizes": {**ODD, "num_key_value_heads": 1, "intermediate_size": 31},
        EVERYTHING: {"sliding_window": 4, "hidden_size": 48, **longrope(partial_rotary_factor=0.75), **TIED},
    },
    "olmo2": {
        PLAIN: {},
        "tied, biases": {"attention_bias": True, **TIED},
        "odd sizes": {**ODD, "rms_norm_eps": 0.1},
        EVERYTHING: {"attention_bias": True, "rms_norm_eps": 0.01, **rope("linear", factor=2.0)},
    },
    "smollm3": {
        PLAIN: {},
        "no layer still": {"no_rope_layers": [1, 1, 1], **rope("default", 70.0)},
        "every layer still": {"no_rope_layers": [0, 0, 0]},
        "windows in still layers, tied": {**WINDOWED, **TIED},
        "windows in layers that are named": {**WINDOWED, "layer_types": [SLIDING, SLIDING, FULL], **YARN},
        "biases": {"attention_bias": True, "mlp_bias": True},
        EVERYTHING: {**WINDOWED, "attention_bias": True, "mlp_bias": True, "num_hidden_layers": 4},
    },
    "gpt_neox": {
        PLAIN: {},
        "sequential residual": {"use_parallel_residual": False},
        "half rotary": share(0.5),
        "full rotary": share(1.0),
        "a share that is no whole number of components": share(0.33),
        "small rotary base": share(1.0, 7.0),
        "tied head": TIED,
        "no attention biases": {"attention_bias": False},
        "sequential, no attention biases, tied": {"use_parallel_residual": False, "attention_bias": False, **TIED},
        "odd sizes": {"vocab_size": 401, "hidden_size": 70, "num_attention_heads": 7, "intermediate_size": 33},
        "one head": {"num_attention_heads": 1},
        "one layer, one neuron": {"num_hidden_layers": 1, "intermediate_size": 1},
        "relu": {"hidden_act": "relu"},
        "silu": {"hidden_act": "silu"},
        "gelu_fast": {"hidden_act": "gelu_fast"},
        "gelu_new": {"hidden_act": "gelu_new"},
        "large epsilon": {"layer_norm_eps": 0.3},
        EVERYTHING: {
            "hidden_size": 60,
            "num_attention_heads": 5,
            "intermediate_size": 41,
            "num_hidden_layers": 4,
            "vocab_size": 311,
            "use_parallel_residual": False,
            "attention_bias": False,
            "hidden_act": "gelu_fast",
            "layer_norm_eps": 0.01,
            **TIED,
            **share(0.5, 321.0),
        },
    },
    "gpt2": {
        PLAIN: {},
        "unscaled scores": {"scale_attn_weights": False},
        "scores scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
        "untied head": UNTIED,
        "relu": {"activation_function": "relu"},
        "gelu": {"activation_function": "gelu"},
        "large epsilon": {"layer_norm_epsilon": 0.3},
        "four times the width": {"n_inner": None},
        EVERYTHING: {
            "hidden_size": 35,
            "num_attention_heads": 5,
            "num_hidden_layers": 4,
            "n_inner": 41,
            "vocab_size": 311,
            "scale_attn_by_inverse_layer_idx": True,
            "scale_attn_weights": False,
            "reorder_and_upcast_attn": True,
            "activation_function": "silu",
            **UNTIED,
        },
    },
    "gpt_j": {
        PLAIN: {},
        "few components turn": {"rotary_dim": 2},
        "all components turn": {"rotary_dim": 12},
        "relu": {"activation_function": "relu"},
        "large epsilon": {"layer_norm_epsilon": 0.3},
        "four times the width": {"n_inner": None},
        EVERYTHING: {
            "hidden_size": 70,
            "num_attention_heads": 7,
            "num_hidden_layers": 4,
            "n_inner": 41,
            "vocab_size": 311,
            "rotary_dim": 6,
            "activation_function": "gelu",
        },
    },
    "phi": {
        PLAIN: {},
        "normed queries and keys": {"qk_layernorm": True},
        "few components turn": share(0.17),
        "all components turn": share(1.0),
        "small rotary base": share(0.5, 7.0),
        "linear rotary scaling": share(0.5, kind="linear", factor=4.0),
        "grouped heads": {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2},
        "relu": {"hidden_act": "relu"},
        "large epsilon": {"layer_norm_eps": 0.3},
        EVERYTHING: {
            "hidden_size": 60,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "num_hidden_layers": 4,
            "intermediate_size": 41,
            "vocab_size": 311,
            "qk_layernorm": True,
            "hidden_act": "gelu",
            **share(0.4, 321.0),
        },
    },
    "gemma": {
        PLAIN: {},
        "biases": {"attention_bias": True},
        "untied head": UNTIED,
        "small rotary base": rope("default", 7.0),
        "large epsilon": {"rms_norm_eps": 30.0},
        "another activation": {"hidden_act": "silu"},
        EVERYTHING: {**ODD_GEMMA, "hidden_act": "silu"},
    },
    "gemma2": {
        PLAIN: {},
        **GEMMA_WINDOWED,
        "no cap of scores": {"attn_logit_softcapping": None},
        "no cap of logits": {"final_logit_softcapping": None},
        EVERYTHING: {**ODD_GEMMA, "sliding_window": 4, "layer_types": [FULL, SLIDING, SLIDING, FULL]},
    },
    "gemma3": {
        PLAIN: {},
        **GEMMA_WINDOWED,
        "another base of full layers": bases(full=7.0),
        "another base of sliding layers": bases(sliding=7.0),
        "scaled positions in full layers": bases(rope_type="linear", factor=8.0),
        EVERYTHING: {
            **ODD_GEMMA,
            "num_hidden_layers": 7,
            "sliding_window": 4,
            "layer_types": [*[SLIDING] * 5, FULL, SLIDING],
            **bases(300.0, 20.0, rope_type="linear", factor=8.0),
        },
    },
}
