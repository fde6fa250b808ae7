"""Gemma 1 (and CodeGemma), and what the later versions share with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint, Weight
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import (
    SIZES,
    Family,
    check_fixed,
    check_hf,
    decoder_config,
    gguf_settings,
    hf_settings,
)
from epo_jax.models.families.gguf_rope import ROPE_KEYS, gguf_rotary
from epo_jax.models.families.rope import rotary_of
from epo_jax.models.families.weight_maps import weight_map

NAMES = {**SIZES, "rms_norm_eps": "norm_eps", "attention_bias": "attention_bias"}
# Every token would see those behind it.
CAUSAL = {"use_bidirectional_attention": (False, None)}


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import GemmaConfig

    # The first files say "gelu" of models that were trained with its approximation.
    if config["hidden_act"] == "gelu":
        config = {**config, "hidden_act": "gelu_pytorch_tanh"}
    handled = [*NAMES, *CAUSAL, "hidden_activation", "rope_parameters"]
    check_hf(config, GemmaConfig().to_dict(), handled, FAMILY.hf_architecture, source)
    # Later files say it beside that.
    check_fixed(config, {**CAUSAL, "hidden_activation": (None, config["hidden_act"])}, source)
    settings = hf_settings(config, NAMES, source)
    rotary, settings["max_positions"] = rotary_of(
        config["rope_parameters"], settings["head_dim"], settings["max_positions"], source
    )
    return gemma_config(source, settings, rotary=(rotary,), dtype=dtype)


def gemma_config(source: str, settings: Mapping[str, Any], **more: Any) -> DecoderConfig:
    """The configuration with these settings, and those that all versions share.

    Raises:
        EpoError: settings that no decoder can have.
    """
    bias = settings.get("attention_bias", False)
    return decoder_config(source, **settings, **more, output_bias=bias, embedding_scale=settings["width"] ** 0.5)


def gguf_names(family: str) -> Mapping[str, str]:
    """Keys that a GGUF file of a version must have, each with the setting's name in `DecoderConfig`."""
    names = {
        "block_count": "layers",
        "context_length": "max_positions",
        "embedding_length": "width",
        "feed_forward_length": "mlp_width",
        "attention.head_count": "heads",
        "attention.head_count_kv": "kv_heads",
        "attention.key_length": "head_dim",
        "attention.layer_norm_rms_epsilon": "norm_eps",
    }
    return {f"{family}.{key}": name for key, name in names.items()}


def gguf_gemma(
    metadata: Mapping[str, Any], checkpoint: Checkpoint, family: str, others: Sequence[str] = ()
) -> dict[str, Any]:
    """Settings that the metadata of every version's GGUF files name, rotary positions among them.

    Args:
        metadata: every key with its value.
        checkpoint: the file's tensors.
        family: the version's prefix of keys.
        others: keys that the version may have beside the common ones, without the prefix.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    source = checkpoint.source
    optional = ("attention.value_length", "vocab_size", *ROPE_KEYS, *others)
    settings = gguf_settings(metadata, gguf_names(family), optional, source)
    head_dim = settings["head_dim"]
    values = metadata.get(f"{family}.attention.value_length", head_dim)
    if values != head_dim:
        raise EpoError(f"{source}: {family}.attention.value_length={values!r} must equal key_length={head_dim}")
    rotary, settings["max_positions"] = gguf_rotary(metadata, family, head_dim, settings["max_positions"], checkpoint)
    # No key names the activation.
    more = {"rotary": (rotary,), "activation": "gelu_pytorch_tanh", "tied": "output.weight" not in checkpoint.shapes}
    return settings | more | {"vocab_size": len(metadata["tokenizer.ggml.tokens"])}


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    return gemma_config(checkpoint.source, gguf_gemma(metadata, checkpoint, "gemma"), dtype=dtype)


def _plus_one(tensor: np.ndarray, _config: DecoderConfig) -> np.ndarray:
    # Files hold what a scale is above one; rounding the sum as they are rounded would lose digits.
    return tensor.astype(np.float32) + 1


_PROJECTIONS = {
    "attention.query": ("self_attn.q_proj", "attn_q"),
    "attention.key": ("self_attn.k_proj", "attn_k"),
    "attention.value": ("self_attn.v_proj", "attn_v"),
    "attention.output": ("self_attn.o_proj", "attn_output"),
    "mlp.gate": ("mlp.gate_proj", "ffn_gate"),
    "mlp.up": ("mlp.up_proj", "ffn_up"),
    "mlp.down": ("mlp.down_proj", "ffn_down"),
}


def hf_weights(norms: Mapping[str, str]) -> Sequence[Weight]:
    """The map of a version: norm of a block -> its name."""
    return weight_map(
        "model.embed_tokens",
        "lm_head",
        {"norm": "model.norm", **{f"blocks.{ours}": f"model.layers.{{l}}.{name}" for ours, name in norms.items()}},
        {ours: f"model.layers.{{l}}.{name}" for ours, (name, _) in _PROJECTIONS.items()},
        scale=_plus_one,
    )


def gguf_weights(norms: Mapping[str, str]) -> Sequence[Weight]:
    """The same in GGUF files, which hold the scales of norms themselves."""
    return weight_map(
        "token_embd",
        "output",
        {"norm": "output_norm", **{f"blocks.{ours}": f"blk.{{l}}.{name}" for ours, name in norms.items()}},
        {ours: f"blk.{{l}}.{name}" for ours, (_, name) in _PROJECTIONS.items()},
    )


def hf_copies(config: DecoderConfig) -> Mapping[str, str]:
    """A tied head is sometimes saved beside the embedding that it equals."""
    return {"lm_head.weight": "model.embed_tokens.weight"} if config.tied else {}


FAMILY = Family(
    hf_architecture="GemmaForCausalLM",
    gguf_architecture="gemma",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=hf_weights({"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}),
    gguf_weights=gguf_weights({"attention_norm": "attn_norm", "mlp_norm": "ffn_norm"}),
    # Old files keep the rotary frequencies.
    hf_ignored=(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
    hf_copies=hf_copies,
)
