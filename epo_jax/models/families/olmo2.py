"""OLMo 2: Llama that norms what attention and MLP give instead of what they read, and all queries and keys together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import Family
from epo_jax.models.families.llama_shaped import (
    HF_IGNORED,
    decoder_of_gguf,
    decoder_of_hf,
    gguf_weights,
    hf_copies,
    hf_weights,
)

_NORMS: Mapping[str, Any] = {"pre_norm": False, "post_norm": True, "qk_norm": "projection"}


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import Olmo2Config

    return decoder_of_hf(
        config,
        Olmo2Config().to_dict(),
        FAMILY.hf_architecture,
        source,
        switches={"attention_bias": "attention_bias"},
        output_bias=config["attention_bias"],
        dtype=dtype,
        **_NORMS,
    )


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata; OLMo 3, which llama.cpp writes under the same name, is refused.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    return decoder_of_gguf(metadata, "olmo2", checkpoint, dtype=dtype, **_NORMS)


FAMILY = Family(
    hf_architecture="Olmo2ForCausalLM",
    gguf_architecture="olmo2",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=hf_weights(
        {
            "attention_post_norm": "post_attention_layernorm",
            "mlp_post_norm": "post_feedforward_layernorm",
            "attention.query_norm": "self_attn.q_norm",
            "attention.key_norm": "self_attn.k_norm",
        }
    ),
    gguf_weights=gguf_weights(
        {
            "attention_post_norm": "post_attention_norm",
            "mlp_post_norm": "post_ffw_norm",
            "attention.query_norm": "attn_q_norm",
            "attention.key_norm": "attn_k_norm",
        }
    ),
    hf_ignored=HF_IGNORED,
    hf_copies=hf_copies,
)
