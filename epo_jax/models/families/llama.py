"""Llama and the models of its very shape (Llama 1, 2 and 3, SmolLM 1 and 2, TinyLlama, Yi, DeepSeek LLM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import Family
from epo_jax.models.families.llama_shaped import (
    GGUF_PAIRED,
    HF_IGNORED,
    decoder_of_gguf,
    decoder_of_hf,
    gguf_weights,
    hf_copies,
    hf_weights,
)


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import LlamaConfig

    # A config.json may say what the default is.
    if config.get("rope_interleaved", False):
        raise EpoError(f"{source}: rope_interleaved={config['rope_interleaved']} is not supported")
    return decoder_of_hf(
        config,
        LlamaConfig().to_dict(),
        FAMILY.hf_architecture,
        source,
        switches={"attention_bias": "attention_bias", "mlp_bias": "mlp_bias"},
        handled=("rope_interleaved",),
        output_bias=config["attention_bias"],
        dtype=dtype,
    )


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata; switches that it does not name follow from its tensors.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    return decoder_of_gguf(metadata, "llama", checkpoint, dtype=dtype)


FAMILY = Family(
    hf_architecture="LlamaForCausalLM",
    gguf_architecture="llama",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=hf_weights(),
    gguf_weights=gguf_weights(parts=GGUF_PAIRED),
    hf_ignored=HF_IGNORED,
    hf_copies=hf_copies,
)
