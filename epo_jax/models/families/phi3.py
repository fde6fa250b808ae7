"""Phi 3, 3.5 and 4 (dense, without vision): Llama with fused projections, LongRoPE, and a window in some."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from epo_jax.models.checkpoint import Checkpoint, Transform, transposed
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import Family
from epo_jax.models.families.layer_types import FULL, SLIDING, windows_of
from epo_jax.models.families.llama_shaped import (
    HF_IGNORED,
    Parts,
    decoder_of_gguf,
    decoder_of_hf,
    gguf_weights,
    hf_copies,
    hf_weights,
)
from epo_jax.models.families.weight_maps import part_of_rows

# What files of Phi 4 mini say of switches that transformers does not have.
STRAY = {"full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False}


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import Phi3Config

    decoder = decoder_of_hf(
        config,
        {**Phi3Config().to_dict(), **STRAY},
        FAMILY.hf_architecture,
        source,
        handled=("sliding_window",),
        partial=True,
        dtype=dtype,
    )
    return _windowed(decoder, config["sliding_window"], source)


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata.

    The window that the file names is the model's, though llama.cpp itself leaves it out.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    decoder = decoder_of_gguf(
        metadata, "phi3", checkpoint, optional=("attention.sliding_window",), partial=True, dtype=dtype
    )
    # Files of models without a window name 0.
    return _windowed(decoder, metadata.get("phi3.attention.sliding_window", 0) or None, checkpoint.source)


def _windowed(decoder: DecoderConfig, window: object, source: str) -> DecoderConfig:
    types = [FULL if window is None else SLIDING] * decoder.layers
    return dataclasses.replace(decoder, windows=windows_of(types, window, decoder.layers, source))


def _half(number: int) -> Transform:
    """The gate (0) or the up projection (1) out of rows that stand below each other."""

    def take(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
        if tensor.shape[:1] != (2 * config.mlp_width,):
            raise ValueError(f"shape {tensor.shape} does not hold 2 x {config.mlp_width} rows")
        return np.split(tensor, 2)[number].T

    return take


def _parts(attention: str, output: str, mlp: str, down: str) -> Parts:
    return {
        **{f"attention.{name}": (attention, part_of_rows(i)) for i, name in enumerate(("query", "key", "value"))},
        "attention.output": (output, transposed),
        **{f"mlp.{name}": (mlp, _half(i)) for i, name in enumerate(("gate", "up"))},
        "mlp.down": (down, transposed),
    }


FAMILY = Family(
    hf_architecture="Phi3ForCausalLM",
    gguf_architecture="phi3",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=hf_weights(parts=_parts("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")),
    gguf_weights=gguf_weights(parts=_parts("attn_qkv", "attn_output", "ffn_up", "ffn_down")),
    hf_ignored=HF_IGNORED,
    hf_copies=hf_copies,
)
