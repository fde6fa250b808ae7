"""GPT-NeoX and the models of its shape (all of Pythia, GPT-NeoX-20B, Dolly 2, Polyglot-Ko)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from epo_jax.models.checkpoint import Checkpoint, Transform
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import SIZES, Family, check_hf, gguf_settings, hf_settings
from epo_jax.models.families.gguf_rope import ROPE_KEYS, gguf_rotary
from epo_jax.models.families.layer_norm import head_width, layer_norm_config
from epo_jax.models.families.rope import rotary_of
from epo_jax.models.families.weight_maps import part_of_rows, weight_map

NAMES = {
    **{name: ours for name, ours in SIZES.items() if name not in ("head_dim", "num_key_value_heads")},
    "layer_norm_eps": "norm_eps",
    "use_parallel_residual": "parallel_residual",
    "attention_bias": "attention_bias",
}


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import GPTNeoXConfig

    check_hf(config, GPTNeoXConfig().to_dict(), [*NAMES, "rope_parameters"], FAMILY.hf_architecture, source)
    settings = hf_settings(config, NAMES, source)
    rotary, settings["max_positions"] = rotary_of(
        config["rope_parameters"], head_width(settings, source), settings["max_positions"], source, partial=True
    )
    return layer_norm_config(source, settings, rotary=(rotary,), output_bias=settings["attention_bias"], dtype=dtype)


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
    source = checkpoint.source
    settings = gguf_settings(metadata, GGUF_HANDLED, GGUF_OPTIONAL, source)
    rotary, settings["max_positions"] = gguf_rotary(
        metadata, "gptneox", head_width(settings, source), settings["max_positions"], checkpoint
    )
    return layer_norm_config(
        source,
        settings,
        vocab_size=len(metadata["tokenizer.ggml.tokens"]),
        rotary=(rotary,),
        activation="gelu",
        tied="output.weight" not in checkpoint.shapes,
        attention_bias="blk.0.attn_qkv.bias" in checkpoint.shapes,
        output_bias="blk.0.attn_output.bias" in checkpoint.shapes,
        dtype=dtype,
    )


def _by_head(part: int) -> Transform:
    """Queries (0), keys (1) or values (2) out of Hugging Face's fused rows, where each head has its own three."""

    def take(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
        rows = config.heads * config.head_dim
        if tensor.shape[:1] != (3 * rows,):
            raise ValueError(f"shape {tensor.shape} does not hold 3 x {rows} rows")
        split = tensor.reshape(config.heads, 3, config.head_dim, *tensor.shape[1:])
        return split[:, part].reshape(rows, *tensor.shape[1:]).T

    return take


_PARTS = ("attention.query", "attention.key", "attention.value")

FAMILY = Family(
    hf_architecture="GPTNeoXForCausalLM",
    gguf_architecture="gptneox",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=weight_map(
        "gpt_neox.embed_in",
        "embed_out",
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
            "attention.output": "gpt_neox.layers.{l}.attention.dense",
            "mlp.up": "gpt_neox.layers.{l}.mlp.dense_h_to_4h",
            "mlp.down": "gpt_neox.layers.{l}.mlp.dense_4h_to_h",
        },
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
    ),
    # Pythia's files keep the causal mask, what it puts in place of hidden scores, and the rotary frequencies.
    hf_ignored=(r"gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
    # A tied head is sometimes saved beside the embedding that it equals.
    hf_copies=lambda config: {"embed_out.weight": "gpt_neox.embed_in.weight"} if config.tied else {},
)
