"""Phi 1, 1.5 and 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import SIZES, Family, check_fixed, check_hf, gguf_settings, hf_settings
from epo_jax.models.families.gguf_rope import ROPE_KEYS, gguf_rotary
from epo_jax.models.families.layer_norm import head_width, layer_norm_config
from epo_jax.models.families.rope import PARTIAL, rotary_of
from epo_jax.models.families.weight_maps import weight_map

NAMES = {**{name: ours for name, ours in SIZES.items() if name != "head_dim"}, "layer_norm_eps": "norm_eps"}


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import PhiConfig

    handled = [*NAMES, PARTIAL, "qk_layernorm", "rope_parameters"]
    check_hf(config, PhiConfig().to_dict(), handled, FAMILY.hf_architecture, source)
    rope = config["rope_parameters"]
    # transformers has put the share into rope_parameters, where config.json has it outside; some of its versions say
    # the default outside of every configuration.
    share = {PARTIAL: (rope.get(PARTIAL), 0.5)} if isinstance(rope, Mapping) else {}
    check_fixed(config, {"qk_layernorm": (True, False), **share}, source)
    settings = hf_settings(config, NAMES, source)
    rotary, settings["max_positions"] = rotary_of(
        rope, head_width(settings, source), settings["max_positions"], source, partial=True
    )
    return _config(
        source, settings, rotary=(rotary,), qk_norm="head" if config["qk_layernorm"] else "none", dtype=dtype
    )


GGUF_HANDLED = {
    "phi2.block_count": "layers",
    "phi2.context_length": "max_positions",
    "phi2.embedding_length": "width",
    "phi2.feed_forward_length": "mlp_width",
    "phi2.attention.head_count": "heads",
    "phi2.attention.head_count_kv": "kv_heads",
    "phi2.attention.layer_norm_epsilon": "norm_eps",
}


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata.

    No key names the activation: it is Phi's own, the one that llama.cpp computes.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    source = checkpoint.source
    settings = gguf_settings(metadata, GGUF_HANDLED, ("vocab_size", *ROPE_KEYS), source)
    rotary, settings["max_positions"] = gguf_rotary(
        metadata, "phi2", head_width(settings, source), settings["max_positions"], checkpoint
    )
    return _config(
        source,
        settings,
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        activation="gelu_new",
        rotary=(rotary,),
        dtype=dtype,
    )


def _config(source: str, settings: Mapping[str, Any], **more: Any) -> DecoderConfig:
    return layer_norm_config(
        source,
        settings,
        **more,
        parallel_residual=True,
        shared_norm=True,
        attention_bias=True,
        output_bias=True,
        head_bias=True,
    )


FAMILY = Family(
    hf_architecture="PhiForCausalLM",
    gguf_architecture="phi2",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=weight_map(
        "model.embed_tokens",
        "lm_head",
        {
            "norm": "model.final_layernorm",
            "blocks.attention_norm": "model.layers.{l}.input_layernorm",
            "blocks.attention.query_norm": "model.layers.{l}.self_attn.q_layernorm",
            "blocks.attention.key_norm": "model.layers.{l}.self_attn.k_layernorm",
        },
        {
            "attention.query": "model.layers.{l}.self_attn.q_proj",
            "attention.key": "model.layers.{l}.self_attn.k_proj",
            "attention.value": "model.layers.{l}.self_attn.v_proj",
            "attention.output": "model.layers.{l}.self_attn.dense",
            "mlp.up": "model.layers.{l}.mlp.fc1",
            "mlp.down": "model.layers.{l}.mlp.fc2",
        },
    ),
    gguf_weights=weight_map(
        "token_embd",
        "output",
        {"norm": "output_norm", "blocks.attention_norm": "blk.{l}.attn_norm"},
        {
            "attention.query": "blk.{l}.attn_q",
            "attention.key": "blk.{l}.attn_k",
            "attention.value": "blk.{l}.attn_v",
            "attention.output": "blk.{l}.attn_output",
            "mlp.up": "blk.{l}.ffn_up",
            "mlp.down": "blk.{l}.ffn_down",
        },
    ),
)
