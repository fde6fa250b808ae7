"""Llama and the models of its shape (Llama 1 and 2, SmolLM 1 and 2, TinyLlama)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint, Weight, transposed
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import (
    SIZES,
    Family,
    check_hf,
    check_settings,
    decoder_config,
    gguf_settings,
    hf_settings,
)
from epo_jax.models.families.gguf_rope import ROPE_KEYS, gguf_rotary
from epo_jax.models.families.rope import rotary_of

NAMES = {**SIZES, "rms_norm_eps": "norm_eps", "attention_bias": "attention_bias", "mlp_bias": "mlp_bias"}


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
    check_hf(
        config, LlamaConfig().to_dict(), [*NAMES, "rope_parameters", "rope_interleaved"], FAMILY.hf_architecture, source
    )
    settings = hf_settings(config, NAMES, source)
    rotary, settings["max_positions"] = rotary_of(
        config["rope_parameters"], settings["head_dim"], settings["max_positions"], source
    )
    return decoder_config(source, **settings, output_bias=settings["attention_bias"], rotary=(rotary,), dtype=dtype)


GGUF_HANDLED = {
    "llama.block_count": "layers",
    "llama.context_length": "max_positions",
    "llama.embedding_length": "width",
    "llama.feed_forward_length": "mlp_width",
    "llama.attention.head_count": "heads",
    "llama.attention.layer_norm_rms_epsilon": "norm_eps",
}
GGUF_OPTIONAL = ("attention.head_count_kv", "attention.key_length", "attention.value_length", "vocab_size", *ROPE_KEYS)


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata; switches that it does not name follow from its tensors.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    settings = gguf_settings(metadata, GGUF_HANDLED, GGUF_OPTIONAL, checkpoint.source)
    heads = settings["heads"]
    head_dim = metadata.get("llama.attention.key_length", settings["width"] // heads)
    turned = metadata.get("llama.rope.dimension_count", head_dim)
    values = metadata.get("llama.attention.value_length", head_dim)
    if (turned, values) != (head_dim, head_dim):
        raise EpoError(
            f"{checkpoint.source}: llama.rope.dimension_count={turned} and value_length={values} must equal the head "
            f"width {head_dim}"
        )
    check_settings({"head_dim": head_dim}, checkpoint.source)
    rotary, settings["max_positions"] = gguf_rotary(metadata, "llama", head_dim, settings["max_positions"], checkpoint)
    return decoder_config(
        checkpoint.source,
        **settings,
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        kv_heads=metadata.get("llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        rotary=(rotary,),
        tied="output.weight" not in checkpoint.shapes,
        attention_bias="blk.0.attn_q.bias" in checkpoint.shapes,
        output_bias="blk.0.attn_output.bias" in checkpoint.shapes,
        mlp_bias="blk.0.ffn_gate.bias" in checkpoint.shapes,
        dtype=dtype,
    )


def _unpaired(tensor: np.ndarray, heads: int) -> np.ndarray:
    # llama.cpp turns neighbouring components of a head, so its files hold the rows of query and key in that order:
    # (0, d/2, 1, d/2 + 1, ...) of the order in which component i pairs with i + d/2.
    pairs = tensor.reshape(heads, -1, 2, *tensor.shape[1:])
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


def _query(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
    return _unpaired(tensor, config.heads).T


def _key(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
    return _unpaired(tensor, config.kv_heads).T


def _hf_weights() -> Sequence[Weight]:
    projections = {
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    }
    return (
        Weight("embedding.embedding", "model.embed_tokens.weight"),
        Weight("norm.scale", "model.norm.weight"),
        Weight("head.kernel", "lm_head.weight", transposed),
        Weight("blocks.attention_norm.scale", "model.layers.{l}.input_layernorm.weight"),
        Weight("blocks.mlp_norm.scale", "model.layers.{l}.post_attention_layernorm.weight"),
        *(Weight(f"blocks.{p}.kernel", f"model.layers.{{l}}.{t}.weight", transposed) for p, t in projections.items()),
        *(Weight(f"blocks.{p}.bias", f"model.layers.{{l}}.{t}.bias") for p, t in projections.items()),
    )


def _gguf_weights() -> Sequence[Weight]:
    projections = {
        "attention.query": ("attn_q", _query),
        "attention.key": ("attn_k", _key),
        "attention.value": ("attn_v", transposed),
        "attention.output": ("attn_output", transposed),
        "mlp.gate": ("ffn_gate", transposed),
        "mlp.up": ("ffn_up", transposed),
        "mlp.down": ("ffn_down", transposed),
    }
    return (
        Weight("embedding.embedding", "token_embd.weight"),
        Weight("norm.scale", "output_norm.weight"),
        Weight("head.kernel", "output.weight", transposed),
        Weight("blocks.attention_norm.scale", "blk.{l}.attn_norm.weight"),
        Weight("blocks.mlp_norm.scale", "blk.{l}.ffn_norm.weight"),
        *(Weight(f"blocks.{p}.kernel", f"blk.{{l}}.{t}.weight", layout) for p, (t, layout) in projections.items()),
        # A bias has one axis, which a transposition leaves as it is.
        *(Weight(f"blocks.{p}.bias", f"blk.{{l}}.{t}.bias", layout) for p, (t, layout) in projections.items()),
    )


def _hf_copies(config: DecoderConfig) -> Mapping[str, str]:
    # A tied head is sometimes saved beside the embedding that it equals.
    return {"lm_head.weight": "model.embed_tokens.weight"} if config.tied else {}


FAMILY = Family(
    hf_architecture="LlamaForCausalLM",
    gguf_architecture="llama",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=_hf_weights(),
    gguf_weights=_gguf_weights(),
    # Old files keep the rotary frequencies.
    hf_ignored=(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
    hf_copies=_hf_copies,
)
