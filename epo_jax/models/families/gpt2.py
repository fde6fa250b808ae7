"""GPT-2 and the models of its shape (DistilGPT2, DialoGPT, Stanford CRFM's Mistral)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epo_jax.models.checkpoint import Checkpoint, as_is
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import Family, check_fixed, check_hf, gguf_settings, hf_settings
from epo_jax.models.families.layer_norm import layer_norm_config
from epo_jax.models.families.weight_maps import part_of_columns, part_of_rows, weight_map

NAMES = {
    "activation_function": "activation",
    "layer_norm_epsilon": "norm_eps",
    "n_embd": "width",
    "n_head": "heads",
    "n_layer": "layers",
    "n_positions": "max_positions",
    "scale_attn_by_inverse_layer_idx": "scale_by_layer",
    "tie_word_embeddings": "tied",
    "vocab_size": "vocab_size",
}
# Scores are computed in float32 here, whatever reorder_and_upcast_attn says. The length of a mask that old files keep,
# n_ctx, limits nothing that n_positions does not.
OTHERS = ("n_ctx", "n_inner", "reorder_and_upcast_attn", "scale_attn_weights")


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import GPT2Config

    defaults = GPT2Config().to_dict()
    check_hf(config, defaults, [*NAMES, *OTHERS], FAMILY.hf_architecture, source, activation="activation_function")
    booleans = {"reorder_and_upcast_attn": (True, False), "scale_attn_weights": (True, False)}
    check_fixed(config, {**booleans, "add_cross_attention": (False,)}, source)
    settings = hf_settings(config, NAMES, source)
    inner = config.get("n_inner")
    return _config(
        source,
        settings,
        mlp_width=4 * settings["width"] if inner is None else inner,
        query_scale=None if config["scale_attn_weights"] else 1.0,
        dtype=dtype,
    )


GGUF_HANDLED = {
    "gpt2.block_count": "layers",
    "gpt2.context_length": "max_positions",
    "gpt2.embedding_length": "width",
    "gpt2.feed_forward_length": "mlp_width",
    "gpt2.attention.head_count": "heads",
    "gpt2.attention.layer_norm_epsilon": "norm_eps",
}


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata.

    No key names the activation: it is GPT-2's own, the one that llama.cpp computes.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    settings = gguf_settings(metadata, GGUF_HANDLED, ("vocab_size",), checkpoint.source)
    return _config(
        checkpoint.source,
        settings,
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        activation="gelu_new",
        # Old files hold the embedding a second time, as a head.
        tied="output.weight" not in checkpoint.shapes,
        dtype=dtype,
    )


def _config(source: str, settings: Mapping[str, Any], **more: Any) -> DecoderConfig:
    return layer_norm_config(source, settings, **more, learned_positions=True, attention_bias=True, output_bias=True)


def _hf_name(name: str) -> str:
    # Files of the model without its head, such as OpenAI's own, leave the prefix out.
    return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"


_PARTS = ("attention.query", "attention.key", "attention.value")

FAMILY = Family(
    hf_architecture="GPT2LMHeadModel",
    gguf_architecture="gpt2",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=weight_map(
        "transformer.wte",
        "lm_head",
        {
            "norm": "transformer.ln_f",
            "blocks.attention_norm": "transformer.h.{l}.ln_1",
            "blocks.mlp_norm": "transformer.h.{l}.ln_2",
        },
        # These are stored as (in, out).
        {
            **{part: ("transformer.h.{l}.attn.c_attn", part_of_columns(index)) for index, part in enumerate(_PARTS)},
            "attention.output": ("transformer.h.{l}.attn.c_proj", as_is),
            "mlp.up": ("transformer.h.{l}.mlp.c_fc", as_is),
            "mlp.down": ("transformer.h.{l}.mlp.c_proj", as_is),
        },
        positions="transformer.wpe",
    ),
    gguf_weights=weight_map(
        "token_embd",
        "output",
        {"norm": "output_norm", "blocks.attention_norm": "blk.{l}.attn_norm", "blocks.mlp_norm": "blk.{l}.ffn_norm"},
        {
            **{part: ("blk.{l}.attn_qkv", part_of_rows(index)) for index, part in enumerate(_PARTS)},
            "attention.output": "blk.{l}.attn_output",
            "mlp.up": "blk.{l}.ffn_up",
            "mlp.down": "blk.{l}.ffn_down",
        },
        positions="position_embd",
    ),
    # The causal mask, and what it puts in place of hidden scores.
    hf_ignored=(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",),
    # A tied head is sometimes saved beside the embedding that it equals.
    hf_copies=lambda config: {"lm_head.weight": "transformer.wte.weight"} if config.tied else {},
    hf_name=_hf_name,
)
