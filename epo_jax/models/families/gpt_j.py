"""GPT-J and the models of its shape (GPT-J-6B, GPT-JT). llama.cpp writes no such files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import DecoderConfig, Rotary
from epo_jax.models.families.base import Family, check_fixed, check_hf, hf_settings
from epo_jax.models.families.layer_norm import head_width, layer_norm_config
from epo_jax.models.families.weight_maps import weight_map
from epo_jax.models.rotary import frequencies_of

NAMES = {
    "activation_function": "activation",
    "layer_norm_epsilon": "norm_eps",
    "n_embd": "width",
    "n_head": "heads",
    "n_layer": "layers",
    "n_positions": "max_positions",
    "tie_word_embeddings": "tied",
    "vocab_size": "vocab_size",
}
# What the first configurations say, and nothing else can.
FIXED = {"rotary": (True,), "scale_attn_weights": (True,)}
BASE = 10000.0


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import GPTJConfig

    handled = [*NAMES, *FIXED, "n_ctx", "n_inner", "rotary_dim"]
    check_hf(config, GPTJConfig().to_dict(), handled, FAMILY.hf_architecture, source, activation="activation_function")
    check_fixed(config, FIXED, source)
    settings = hf_settings(config, NAMES, source)
    inner, turned, head_dim = config.get("n_inner"), config["rotary_dim"], head_width(settings, source)
    if isinstance(turned, bool) or not isinstance(turned, int) or not 2 <= turned <= head_dim or turned % 2:
        raise EpoError(f"{source}: rotary_dim={turned!r} is no even number of a head's {head_dim} components")
    return layer_norm_config(
        source,
        settings,
        mlp_width=4 * settings["width"] if inner is None else inner,
        rotary=(Rotary(frequencies_of(BASE, turned)),),
        parallel_residual=True,
        shared_norm=True,
        head_bias=True,
        dtype=dtype,
    )


def from_gguf(_metadata: Mapping[str, Any], checkpoint: Checkpoint, _dtype: str) -> DecoderConfig:
    """Nothing: there are no such files.

    Raises:
        EpoError: always.
    """
    raise EpoError(f"{checkpoint.source}: GPT-J is read from a folder in Hugging Face format only")


def _unpaired(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
    # Neighbouring components turn together here, in the first rotary_dim of each head; the decoder turns component i
    # with i + rotary_dim / 2. Queries and keys in another order have the same products.
    split = tensor.reshape(config.heads, config.head_dim, -1)
    turning, staying = np.split(split, [config.rotary_dim], axis=1)
    halves = [turning[:, 0::2], turning[:, 1::2], staying]
    return np.concatenate(halves, axis=1).reshape(tensor.shape).T


FAMILY = Family(
    hf_architecture="GPTJForCausalLM",
    gguf_architecture=None,
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=weight_map(
        "transformer.wte",
        "lm_head",
        {"norm": "transformer.ln_f", "blocks.attention_norm": "transformer.h.{l}.ln_1"},
        {
            "attention.query": ("transformer.h.{l}.attn.q_proj", _unpaired),
            "attention.key": ("transformer.h.{l}.attn.k_proj", _unpaired),
            "attention.value": "transformer.h.{l}.attn.v_proj",
            "attention.output": "transformer.h.{l}.attn.out_proj",
            "mlp.up": "transformer.h.{l}.mlp.fc_in",
            "mlp.down": "transformer.h.{l}.mlp.fc_out",
        },
    ),
    gguf_weights=(),
    # The causal mask, what it puts in place of hidden scores, and the rotary angles.
    hf_ignored=(r"transformer\.h\.\d+\.attn\.(bias|masked_bias|embed_positions)",),
)
