"""Gemma 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import LARGEST, SIZES, Family, check_fixed, check_hf, hf_settings
from epo_jax.models.families.gemma import CAUSAL, gemma_config, gguf_gemma, gguf_weights, hf_copies, hf_weights
from epo_jax.models.families.layer_types import FULL, SLIDING, windows_of
from epo_jax.models.families.rope import rotary_of

NAMES = {
    **{name: ours for name, ours in SIZES.items() if name != "hidden_act"},
    "attention_bias": "attention_bias",
    "attn_logit_softcapping": "attention_softcap",
    "final_logit_softcapping": "logit_softcap",
    "hidden_activation": "activation",
    "query_pre_attn_scalar": "query_scale",
    "rms_norm_eps": "norm_eps",
}


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import Gemma2Config

    # The first files say some things twice.
    twice = {"hidden_act": "hidden_activation", "sliding_window_size": "sliding_window"}
    handled = [*NAMES, *CAUSAL, *twice, "layer_types", "rope_parameters", "sliding_window"]
    check_hf(config, Gemma2Config().to_dict(), handled, FAMILY.hf_architecture, source, activation="hidden_activation")
    check_fixed(config, {**CAUSAL, **{name: (config[other],) for name, other in twice.items()}}, source)
    settings = hf_settings(config, NAMES, source)
    settings["query_scale"] = score_scale(settings["query_scale"], source)
    windows = windows_of(config["layer_types"], config["sliding_window"], settings["layers"], source)
    rotary, settings["max_positions"] = rotary_of(
        config["rope_parameters"], settings["head_dim"], settings["max_positions"], source
    )
    return gemma_config(source, settings, rotary=(rotary,), windows=windows, post_norm=True, dtype=dtype)


def score_scale(scalar: float | None, source: str) -> float:
    """The scale of attention's scores that query_pre_attn_scalar stands for.

    Raises:
        EpoError: there is none.
    """
    if scalar is None:
        raise EpoError(f"{source}: lacks query_pre_attn_scalar, the number that attention's scores are scaled by")
    return float(scalar**-0.5)


# What llama.cpp computes with where the first files say nothing.
GGUF_DEFAULTS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "attention.sliding_window": 4096}
# The largest model, which has a scale of its own.
LARGEST_LAYERS = 46


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata.

    No key says how attention's scores are scaled; llama.cpp knows the largest model by its number of layers.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    source = checkpoint.source
    settings = gguf_gemma(metadata, checkpoint, "gemma2", (*GGUF_DEFAULTS, PATTERN))
    attention, logits, window = (metadata.get(f"gemma2.{key}", value) for key, value in GGUF_DEFAULTS.items())
    types = layer_types(metadata.get(f"gemma2.{PATTERN}", 2), settings["layers"], source)
    return gemma_config(
        source,
        settings,
        windows=windows_of(types, window, settings["layers"], source),
        query_scale=query_scale(settings, LARGEST_LAYERS),
        attention_softcap=attention,
        logit_softcap=logits,
        post_norm=True,
        dtype=dtype,
    )


PATTERN = "attention.sliding_window_pattern"


def layer_types(pattern: object, layers: int, source: str) -> list[str]:
    """Types of layers, of which every so many sees all tokens and the others look through a window.

    Raises:
        EpoError: an impossible number.
    """
    if isinstance(pattern, bool) or not isinstance(pattern, int) or not 1 <= pattern <= LARGEST:
        raise EpoError(f"{source}: {PATTERN}={pattern!r} is not supported; a whole number from 1 is read")
    return [FULL if (layer + 1) % pattern == 0 else SLIDING for layer in range(layers)]


def query_scale(settings: Mapping[str, Any], largest: int) -> float:
    """The scale of attention's scores in a GGUF file: the model with the most layers has one of its own."""
    per_head = settings["width"] // settings["heads"] if settings["layers"] == largest else settings["head_dim"]
    return float(per_head**-0.5)


HF_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
GGUF_NORMS = {
    "attention_norm": "attn_norm",
    "attention_post_norm": "post_attention_norm",
    "mlp_norm": "ffn_norm",
    "mlp_post_norm": "post_ffw_norm",
}

FAMILY = Family(
    hf_architecture="Gemma2ForCausalLM",
    gguf_architecture="gemma2",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=hf_weights(HF_NORMS),
    gguf_weights=gguf_weights(GGUF_NORMS),
    hf_copies=hf_copies,
)
