"""Qwen 2 and 2.5 (dense): Llama with biases on query, key and value, and with windows in some layers if asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import Family
from epo_jax.models.families.layer_types import windows_of
from epo_jax.models.families.llama_shaped import (
    HF_IGNORED,
    decoder_of_gguf,
    decoder_of_hf,
    gguf_weights,
    hf_copies,
    hf_weights,
)

# What says which layers have a window; transformers has worked it into layer_types and sliding_window.
WINDOWS = ("layer_types", "max_window_layers", "sliding_window", "use_sliding_window")


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import Qwen2Config

    decoder = decoder_of_hf(
        config,
        # Files of Qwen 2.5 say that they have no rotary positions of images.
        {**Qwen2Config().to_dict(), "use_mrope": False},
        FAMILY.hf_architecture,
        source,
        handled=WINDOWS,
        attention_bias=True,
        dtype=dtype,
    )
    windows = windows_of(config["layer_types"], config["sliding_window"], decoder.layers, source)
    return dataclasses.replace(decoder, windows=windows)


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata; llama.cpp leaves windows out of it.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    return decoder_of_gguf(metadata, "qwen2", checkpoint, attention_bias=True, dtype=dtype)


FAMILY = Family(
    hf_architecture="Qwen2ForCausalLM",
    gguf_architecture="qwen2",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=hf_weights(),
    gguf_weights=gguf_weights(),
    hf_ignored=HF_IGNORED,
    hf_copies=hf_copies,
)
