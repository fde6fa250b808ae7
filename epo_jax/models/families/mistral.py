"""Mistral (7B, Nemo, Small without vision, Zephyr): Llama without biases, and with a window in some."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from epo_jax.models.config import DecoderConfig
from epo_jax.models.families import llama
from epo_jax.models.families.base import Family
from epo_jax.models.families.layer_types import FULL, SLIDING, windows_of
from epo_jax.models.families.llama_shaped import HF_IGNORED, decoder_of_hf, hf_copies, hf_weights


def from_hf(config: Mapping[str, Any], source: str, dtype: str) -> DecoderConfig:
    """Configuration from config.json's attributes.

    Raises:
        EpoError: an attribute or a value that the decoder does not implement.
    """
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import MistralConfig

    decoder = decoder_of_hf(
        config, MistralConfig().to_dict(), FAMILY.hf_architecture, source, handled=("sliding_window",), dtype=dtype
    )
    window = config["sliding_window"]
    types = [FULL if window is None else SLIDING] * decoder.layers
    return dataclasses.replace(decoder, windows=windows_of(types, window, decoder.layers, source))


FAMILY = Family(
    hf_architecture="MistralForCausalLM",
    # llama.cpp writes Mistral as a Llama, and leaves the window out.
    gguf_architecture=None,
    from_hf=from_hf,
    from_gguf=llama.from_gguf,
    hf_weights=hf_weights(),
    gguf_weights=llama.FAMILY.gguf_weights,
    hf_ignored=HF_IGNORED,
    hf_copies=hf_copies,
)
