"""Qwen 3 (dense): Llama with norms on each head's query and key, and with windows in some layers if asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import Family
from epo_jax.models.families.layer_types import windows_of
from epo_jax.models.families.llama_shaped import (
    GGUF_NORMS,
    HF_IGNORED,
    HF_NORMS,
    decoder_of_gguf,
    decoder_of_hf,
    gguf_weights,
    hf_copies,
    hf_weights,
)
from epo_jax.models.families.qwen2 import WINDOWS


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import Qwen3Config

    decoder = decoder_of_hf(
        config,
        Qwen3Config().to_dict(),
        FAMILY.hf_architecture,
        source,
        switches={"attention_bias": "attention_bias"},
        handled=WINDOWS,
        output_bias=config["attention_bias"],
        qk_norm="head",
        dtype=dtype,
    )
    windows = windows_of(config["layer_types"], config["sliding_window"], decoder.layers, source)
    return dataclasses.replace(decoder, windows=windows)


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata; llama.cpp leaves windows out of it.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    return decoder_of_gguf(metadata, "qwen3", checkpoint, qk_norm="head", dtype=dtype)


FAMILY = Family(
    hf_architecture="Qwen3ForCausalLM",
    gguf_architecture="qwen3",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=hf_weights(
        {**HF_NORMS, "attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm"}
    ),
    gguf_weights=gguf_weights(
        {**GGUF_NORMS, "attention.query_norm": "attn_q_norm", "attention.key_norm": "attn_k_norm"}
    ),
    hf_ignored=HF_IGNORED,
    hf_copies=hf_copies,
)
