"""What the families of Llama's shape share: RMS norms, rotary positions, a gated MLP, and the names of all that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint, Transform, Weight, transposed
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import (
    SIZES,
    check_hf,
    check_settings,
    decoder_config,
    gguf_settings,
    hf_settings,
)
from epo_jax.models.families.gguf_rope import ROPE_KEYS, gguf_rotary
from epo_jax.models.families.rope import ORIGINAL, PARTIAL, rotary_of
from epo_jax.models.families.weight_maps import weight_map

NOTHING: Mapping[str, str] = MappingProxyType({})


def decoder_of_hf(
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    architecture: str,
    source: str,
    *,
    switches: Mapping[str, str] = NOTHING,
    handled: Collection[str] = (),
    partial: bool = False,
    **fixed: Any,
) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Args:
        config: its attributes.
        defaults: those of transformers' configuration of the family.
        architecture: the class that config.json names.
        source: the file or folder, for messages.
        switches: attributes that only this family has -> the settings' names in `DecoderConfig`.
        handled: further attributes, which the family translates itself.
        partial: whether the family lets only a share of each head turn.
        fixed: settings that all of the family's models have.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    names = {**SIZES, "rms_norm_eps": "norm_eps", **switches}
    # Many config.json files say so of biases that the family's models never have.
    unbiased = {name: False for name in ("attention_bias", "mlp_bias") if not fixed.get(name)}
    # transformers has put the last two into rope_parameters, where config.json has them outside.
    handled = [*names, *handled, "rope_parameters", PARTIAL, ORIGINAL]
    check_hf(config, {**unbiased, **defaults}, handled, architecture, source)
    own = {name: setting for name, setting in names.items() if name != "head_dim"}
    settings = hf_settings(config, own, source)
    settings["head_dim"] = config.get("head_dim", settings["width"] // settings["heads"])
    check_settings({"head_dim": settings["head_dim"]}, source)
    rope = config["rope_parameters"]
    if isinstance(rope, Mapping):
        for name in (PARTIAL, ORIGINAL):
            if name in config and rope.get(name, config[name]) != config[name]:
                raise EpoError(f"{source}: {name} is {config[name]!r}, and {rope[name]!r} in rope_parameters")
    rotary, settings["max_positions"] = rotary_of(
        rope, settings["head_dim"], settings["max_positions"], source, partial=partial
    )
    return decoder_config(source, **settings, **fixed, rotary=(rotary,))


GGUF_HANDLED = {
    "block_count": "layers",
    "context_length": "max_positions",
    "embedding_length": "width",
    "feed_forward_length": "mlp_width",
    "attention.head_count": "heads",
    "attention.layer_norm_rms_epsilon": "norm_eps",
}
GGUF_OPTIONAL = ("attention.head_count_kv", "attention.key_length", "attention.value_length", "vocab_size", *ROPE_KEYS)


def decoder_of_gguf(
    metadata: Mapping[str, Any],
    prefix: str,
    checkpoint: Checkpoint,
    *,
    optional: Collection[str] = (),
    partial: bool = False,
    **fixed: Any,
) -> DecoderConfig:
    """Configuration from a GGUF file's metadata; switches that it does not name follow from its tensors.

    Args:
        metadata: every key with its value.
        prefix: of the family's keys.
        checkpoint: the file's tensors.
        optional: further keys, without the prefix, which the family translates itself.
        partial: whether the family lets only a share of each head turn.
        fixed: settings that all of the family's models have; they win over what tensors say.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    source = checkpoint.source
    handled = {f"{prefix}.{key}": setting for key, setting in GGUF_HANDLED.items()}
    settings = gguf_settings(metadata, handled, [*GGUF_OPTIONAL, *optional], source)
    head_dim = metadata.get(f"{prefix}.attention.key_length", settings["width"] // settings["heads"])
    turned = metadata.get(f"{prefix}.rope.dimension_count", head_dim)
    values = metadata.get(f"{prefix}.attention.value_length", head_dim)
    if values != head_dim or (turned != head_dim and not partial):
        raise EpoError(
            f"{source}: {prefix}.rope.dimension_count={turned} and value_length={values} must equal the head width "
            f"{head_dim}"
        )
    check_settings({"head_dim": head_dim}, source)
    rotary, settings["max_positions"] = gguf_rotary(metadata, prefix, head_dim, settings["max_positions"], checkpoint)
    shapes = checkpoint.shapes
    settings |= {
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "kv_heads": metadata.get(f"{prefix}.attention.head_count_kv", settings["heads"]),
        "head_dim": head_dim,
        "tied": "output.weight" not in shapes,
        "attention_bias": "blk.0.attn_q.bias" in shapes,
        "output_bias": "blk.0.attn_output.bias" in shapes,
        "mlp_bias": "blk.0.ffn_gate.bias" in shapes,
    }
    return decoder_config(source, **(settings | fixed), rotary=(rotary,))


Parts = Mapping[str, tuple[str, Transform]]

HF_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
HF_PARTS: Parts = {
    "attention.query": ("self_attn.q_proj", transposed),
    "attention.key": ("self_attn.k_proj", transposed),
    "attention.value": ("self_attn.v_proj", transposed),
    "attention.output": ("self_attn.o_proj", transposed),
    "mlp.gate": ("mlp.gate_proj", transposed),
    "mlp.up": ("mlp.up_proj", transposed),
    "mlp.down": ("mlp.down_proj", transposed),
}
GGUF_NORMS = {"attention_norm": "attn_norm", "mlp_norm": "ffn_norm"}
GGUF_PARTS: Parts = {
    "attention.query": ("attn_q", transposed),
    "attention.key": ("attn_k", transposed),
    "attention.value": ("attn_v", transposed),
    "attention.output": ("attn_output", transposed),
    "mlp.gate": ("ffn_gate", transposed),
    "mlp.up": ("ffn_up", transposed),
    "mlp.down": ("ffn_down", transposed),
}


def hf_weights(norms: Mapping[str, str] = HF_NORMS, parts: Parts = HF_PARTS) -> Sequence[Weight]:
    """Where parameters come from in safetensors files.

    Args:
        norms: a block's norms -> the tensors' names, without layer and kind.
        parts: its linear maps -> the same, and from the files' layout to the decoder's.
    """
    return _weights(("model.embed_tokens", "model.norm", "lm_head"), "model.layers.{l}", norms, parts)


def gguf_weights(norms: Mapping[str, str] = GGUF_NORMS, parts: Parts = GGUF_PARTS) -> Sequence[Weight]:
    """The same in GGUF files."""
    return _weights(("token_embd", "output_norm", "output"), "blk.{l}", norms, parts)


def _weights(outside: Sequence[str], layer: str, norms: Mapping[str, str], parts: Parts) -> Sequence[Weight]:
    embedding, norm, head = outside
    inside = {f"blocks.{ours}": f"{layer}.{theirs}" for ours, theirs in norms.items()}
    projections = {ours: (f"{layer}.{theirs}", layout) for ours, (theirs, layout) in parts.items()}
    return weight_map(embedding, head, {"norm": norm, **inside}, projections)


# Old files keep the rotary frequencies.
HF_IGNORED = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",)


def hf_copies(config: DecoderConfig) -> Mapping[str, str]:
    """A tied head, which is sometimes saved beside the embedding that it equals."""
    return {"lm_head.weight": "model.embed_tokens.weight"} if config.tied else {}


def _unpaired(tensor: np.ndarray, heads: int) -> np.ndarray:
    # llama.cpp turns neighbouring components of a head, so its files hold the rows of query and key in that order:
    # (0, d/2, 1, d/2 + 1, ...) of the order in which component i pairs with i + d/2.
    pairs = tensor.reshape(heads, -1, 2, *tensor.shape[1:])
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


def _query(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
    return _unpaired(tensor, config.heads).T


def _key(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
    return _unpaired(tensor, config.kv_heads).T


# Of the families whose neighbouring components turn together in llama.cpp.
GGUF_PAIRED: Parts = {**GGUF_PARTS, "attention.query": ("attn_q", _query), "attention.key": ("attn_k", _key)}
