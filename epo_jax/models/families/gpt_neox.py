"""GPT-NeoX and the models of its shape (all of Pythia, GPT-NeoX-20B, Dolly 2, Polyglot-Ko)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint, Transform, Weight, transposed
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import (
    Family,
    check_hf,
    check_settings,
    decoder_config,
    gguf_settings,
)
from epo_jax.models.families.gguf_rope import ROPE_KEYS, gguf_rotary
from epo_jax.models.families.rope import rotary_of

HANDLED = (
    "attention_bias hidden_act hidden_size intermediate_size layer_norm_eps max_position_embeddings "
    "num_attention_heads num_hidden_layers rope_parameters tie_word_embeddings use_parallel_residual vocab_size"
).split()


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import GPTNeoXConfig

    check_hf(config, GPTNeoXConfig().to_dict(), HANDLED, FAMILY.hf_architecture, source)
    settings = {
        "vocab_size": config["vocab_size"],
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "mlp_width": config["intermediate_size"],
        "max_positions": config["max_position_embeddings"],
        "norm_eps": config["layer_norm_eps"],
        "activation": config["hidden_act"],
        "parallel_residual": config["use_parallel_residual"],
        "tied": config["tie_word_embeddings"],
        "attention_bias": config["attention_bias"],
        "output_bias": config["attention_bias"],
    }
    check_settings(settings, source)
    head_dim = settings["width"] // settings["heads"]
    rotary, settings["max_positions"] = rotary_of(
        config["rope_parameters"], head_dim, settings["max_positions"], source, partial=True
    )
    return _decoder_config(source, settings, rotary=(rotary,), dtype=dtype)


GGUF_HANDLED = {
    "gptneox.block_count": "layers",
    "gptneox.context_length": "max_positions",
    "gptneox.embedding_length": "width",
    "gptneox.feed_forward_length": "mlp_width",
    "gptneox.attention.head_count": "heads",
    "gptneox.attention.layer_norm_epsilon": "norm_eps",
    "gptneox.use_parallel_residual": "parallel_residual",
}
GGUF_OPTIONAL = ("vocab_size", *ROPE_KEYS)


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata; switches that it does not name follow from its tensors.

    No key says which GELU the model has: it is the exact one, which Pythia's config.json files name.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    settings = gguf_settings(metadata, GGUF_HANDLED, GGUF_OPTIONAL, checkpoint.source)
    head_dim = settings["width"] // settings["heads"]
    rotary, settings["max_positions"] = gguf_rotary(
        metadata, "gptneox", head_dim, settings["max_positions"], checkpoint
    )
    return _decoder_config(
        checkpoint.source,
        settings,
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        rotary=(rotary,),
        activation="gelu",
        tied="output.weight" not in checkpoint.shapes,
        attention_bias="blk.0.attn_qkv.bias" in checkpoint.shapes,
        output_bias="blk.0.attn_output.bias" in checkpoint.shapes,
        dtype=dtype,
    )


def _decoder_config(source: str, settings: Mapping[str, Any], **more: Any) -> DecoderConfig:
    width, heads = settings["width"], settings["heads"]
    if width % heads:
        raise EpoError(f"{source}: not a valid configuration: {heads} heads do not divide the width {width}")
    return decoder_config(
        source,
        **settings,
        **more,
        kv_heads=heads,
        head_dim=width // heads,
        norm="layer",
        gated=False,
        mlp_bias=True,
    )


def _by_head(part: int) -> Transform:
    """Queries (0), keys (1) or values (2) out of Hugging Face's fused rows, where each head has its own three."""

    def take(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
        rows = _third(tensor, config)
        split = tensor.reshape(config.heads, 3, config.head_dim, *tensor.shape[1:])
        return split[:, part].reshape(rows, *tensor.shape[1:]).T

    return take


def _in_thirds(part: int) -> Transform:
    """The same out of llama.cpp's fused rows: all queries, then all keys, then all values."""

    def take(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
        rows = _third(tensor, config)
        return tensor[part * rows : (part + 1) * rows].T

    return take


def _third(tensor: np.ndarray, config: DecoderConfig) -> int:
    rows = config.heads * config.head_dim
    if tensor.shape[:1] != (3 * rows,):
        raise ValueError(f"shape {tensor.shape} does not hold 3 x {rows} rows")
    return rows


Sources = Mapping[str, tuple[str, Transform]]


def _weights(embedding: str, head: str, norms: Mapping[str, str], projections: Sources) -> Sequence[Weight]:
    flax = {"scale": "weight", "bias": "bias"}
    return (
        Weight("embedding.embedding", embedding),
        Weight("head.kernel", head, transposed),
        *(
            Weight(f"{norm}.{ours}", f"{name}.{theirs}")
            for norm, name in norms.items()
            for ours, theirs in flax.items()
        ),
        *(Weight(f"blocks.{p}.kernel", f"{t}.weight", layout) for p, (t, layout) in projections.items()),
        # A bias has one axis, which a transposition leaves as it is.
        *(Weight(f"blocks.{p}.bias", f"{t}.bias", layout) for p, (t, layout) in projections.items()),
    )


_PARTS = ("attention.query", "attention.key", "attention.value")

FAMILY = Family(
    hf_architecture="GPTNeoXForCausalLM",
    gguf_architecture="gptneox",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=_weights(
        "gpt_neox.embed_in.weight",
        "embed_out.weight",
        {
            "norm": "gpt_neox.final_layer_norm",
            "blocks.attention_norm": "gpt_neox.layers.{l}.input_layernorm",
            "blocks.mlp_norm": "gpt_neox.layers.{l}.post_attention_layernorm",
        },
        {
            **{
                part: ("gpt_neox.layers.{l}.attention.query_key_value", _by_head(index))
                for index, part in enumerate(_PARTS)
            },
            "attention.output": ("gpt_neox.layers.{l}.attention.dense", transposed),
            "mlp.up": ("gpt_neox.layers.{l}.mlp.dense_h_to_4h", transposed),
            "mlp.down": ("gpt_neox.layers.{l}.mlp.dense_4h_to_h", transposed),
        },
    ),
    gguf_weights=_weights(
        "token_embd.weight",
        "output.weight",
        {"norm": "output_norm", "blocks.attention_norm": "blk.{l}.attn_norm", "blocks.mlp_norm": "blk.{l}.ffn_norm"},
        {
            **{part: ("blk.{l}.attn_qkv", _in_thirds(index)) for index, part in enumerate(_PARTS)},
            "attention.output": ("blk.{l}.attn_output", transposed),
            "mlp.up": ("blk.{l}.ffn_up", transposed),
            "mlp.down": ("blk.{l}.ffn_down", transposed),
        },
    ),
    # Pythia's files keep the causal mask, what it puts in place of hidden scores, and the rotary frequencies.
    hf_ignored=(r"gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
    # A tied head is sometimes saved beside the embedding that it equals.
    hf_copies=lambda config: {"embed_out.weight": "gpt_neox.embed_in.weight"} if config.tied else {},
)
