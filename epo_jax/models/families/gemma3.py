"""Gemma 3, its text models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import DecoderConfig, Rotary
from epo_jax.models.families.base import Family, check_fixed, check_hf, hf_settings
from epo_jax.models.families.gemma import CAUSAL, gemma_config, gguf_gemma, gguf_weights, hf_copies, hf_weights
from epo_jax.models.families.gemma2 import (
    GGUF_NORMS,
    HF_NORMS,
    NAMES,
    PATTERN,
    layer_types,
    query_scale,
    score_scale,
)
from epo_jax.models.families.layer_types import FULL, SLIDING, windows_of
from epo_jax.models.families.rope import rotary_of

# How the layers of one type turn their heads; the place in this tuple is a layer's number in `layer_rotary`.
WAYS = (FULL, SLIDING)


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import Gemma3TextConfig

    # transformers has made layer_types of the pattern, if there were none.
    patterns = ("_sliding_window_pattern", "sliding_window_pattern")
    handled = [*NAMES, *CAUSAL, *patterns, "layer_types", "rope_parameters", "sliding_window"]
    check_hf(
        config, Gemma3TextConfig().to_dict(), handled, FAMILY.hf_architecture, source, activation="hidden_activation"
    )
    # PyTorch's model has the setting, and passes over it.
    check_fixed(config, {**CAUSAL, "attn_logit_softcapping": (None,)}, source)
    settings = hf_settings(config, NAMES, source)
    settings["query_scale"] = score_scale(settings["query_scale"], source)
    types, ropes = config["layer_types"], config["rope_parameters"]
    windows = windows_of(types, config["sliding_window"], settings["layers"], source)
    if not isinstance(ropes, Mapping) or set(ropes) != set(WAYS):
        raise EpoError(f"{source}: rope_parameters={ropes!r}, where an object for each of {FULL} and {SLIDING} is read")
    found = [rotary_of(ropes[way], settings["head_dim"], settings["max_positions"], source) for way in WAYS]
    settings["max_positions"] = min(positions for _, positions in found)
    return _config(source, settings, tuple(rotary for rotary, _ in found), windows, dtype=dtype)


GGUF_OPTIONAL = ("attention.sliding_window", "final_logit_softcapping", "rope.freq_base_swa", PATTERN)
# The largest model, which has a scale of its own.
LARGEST_LAYERS = 62


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata.

    No key says how attention's scores are scaled; llama.cpp knows the largest model by its number of layers. A file
    without a window has layers of one type.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    source = checkpoint.source
    settings = gguf_gemma(metadata, checkpoint, "gemma3", GGUF_OPTIONAL)
    window = metadata.get("gemma3.attention.sliding_window")
    types = layer_types(1 if window is None else metadata.get(f"gemma3.{PATTERN}", 6), settings["layers"], source)
    # Scalings of the rotary positions are for the layers that see all tokens.
    (rotary,) = settings.pop("rotary")
    base = {"rope_theta": metadata.get("gemma3.rope.freq_base_swa", 10000.0)}
    local, _ = rotary_of(base, 2 * len(rotary.frequencies), settings["max_positions"], source)
    return _config(
        source,
        settings,
        (rotary, local),
        windows_of(types, window, settings["layers"], source),
        query_scale=query_scale(settings, LARGEST_LAYERS),
        logit_softcap=metadata.get("gemma3.final_logit_softcapping"),
        dtype=dtype,
    )


def _config(
    source: str, settings: Mapping[str, Any], rotary: tuple[Rotary, ...], windows: tuple[int, ...], **more: Any
) -> DecoderConfig:
    layers = tuple(int(window > 0) for window in windows)
    return gemma_config(
        source, settings, **more, rotary=rotary, layer_rotary=layers, windows=windows, qk_norm="head", post_norm=True
    )


_QK_NORMS = {"attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm"}
_GGUF_QK_NORMS = {"attention.query_norm": "attn_q_norm", "attention.key_norm": "attn_k_norm"}

FAMILY = Family(
    hf_architecture="Gemma3ForCausalLM",
    gguf_architecture="gemma3",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=hf_weights({**HF_NORMS, **_QK_NORMS}),
    gguf_weights=gguf_weights({**GGUF_NORMS, **_GGUF_QK_NORMS}),
    hf_copies=hf_copies,
)
