"""SmolLM 3: Llama whose heads stay as they are in every fourth layer, and with windows there if asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import DecoderConfig, Rotary
from epo_jax.models.families.base import Family
from epo_jax.models.families.layer_types import windows_of
from epo_jax.models.families.llama_shaped import (
    GGUF_PAIRED,
    HF_IGNORED,
    decoder_of_gguf,
    decoder_of_hf,
    gguf_weights,
    hf_copies,
    hf_weights,
)
from epo_jax.models.families.qwen2 import WINDOWS

# In llama.cpp each such layer's heads do not turn, whatever config.json said.
STILL = 4


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import SmolLM3Config

    decoder = decoder_of_hf(
        config,
        SmolLM3Config().to_dict(),
        FAMILY.hf_architecture,
        source,
        switches={"attention_bias": "attention_bias", "mlp_bias": "mlp_bias"},
        # transformers has worked the interval into the list.
        handled=("no_rope_layers", "no_rope_layer_interval", *WINDOWS),
        output_bias=config["attention_bias"],
        dtype=dtype,
    )
    turning = config["no_rope_layers"]
    if not isinstance(turning, list) or len(turning) < decoder.layers or any(one not in (0, 1) for one in turning):
        raise EpoError(
            f"{source}: no_rope_layers is no list of 0 (no rotary positions) and 1 for each of {decoder.layers} layers"
        )
    # Unlike Qwen's, the configuration keeps a window that is switched off.
    window = config["sliding_window"] if config["use_sliding_window"] else None
    windows = windows_of(config["layer_types"], window, decoder.layers, source)
    return dataclasses.replace(_turning(decoder, [one == 1 for one in turning[: decoder.layers]]), windows=windows)


def from_gguf(metadata: Mapping[str, Any], checkpoint: Checkpoint, dtype: str) -> DecoderConfig:
    """Configuration from a GGUF file's metadata; switches that it does not name follow from its tensors.

    Raises:
        EpoError: a key that is missing, or one that the decoder does not implement.
    """
    decoder = decoder_of_gguf(metadata, "smollm3", checkpoint, dtype=dtype)
    return _turning(decoder, [(layer + 1) % STILL != 0 for layer in range(decoder.layers)])


def _turning(decoder: DecoderConfig, layers: Sequence[bool]) -> DecoderConfig:
    """The same with heads that turn in these layers only."""
    if all(layers):
        return decoder
    still = Rotary((0.0,) * len(decoder.rotary[0].frequencies))
    ways = tuple(0 if turns else 1 for turns in layers)
    return dataclasses.replace(decoder, rotary=(*decoder.rotary, still), layer_rotary=ways)


FAMILY = Family(
    hf_architecture="SmolLM3ForCausalLM",
    gguf_architecture="smollm3",
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=hf_weights(),
    gguf_weights=gguf_weights(parts=GGUF_PAIRED),
    hf_ignored=HF_IGNORED,
    hf_copies=hf_copies,
)
