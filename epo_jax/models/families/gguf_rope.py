"""Rotary positions from a GGUF file: its metadata, and the tensors in which llama.cpp keeps factors of frequencies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import Rotary
from epo_jax.models.families.rope import ORIGINAL, rotary_of

# Keys behind the family's prefix, for `gguf_settings`.
ROPE_KEYS = (
    "rope.dimension_count rope.freq_base rope.scaling.type rope.scaling.factor rope.scaling.attn_factor "
    "rope.scaling.original_context_length rope.scaling.finetuned"
).split()
# Tensors that hold no parameter, as regular expressions.
ROPE_TENSORS = (r"rope_freqs\.weight", r"rope_factors_(long|short)\.weight")


def gguf_rotary(
    metadata: Mapping[str, Any], prefix: str, head_dim: int, max_positions: int, checkpoint: Checkpoint
) -> tuple[Rotary, int]:
    """How heads turn.

    Args:
        metadata: every key with its value.
        prefix: the family's, such as "llama".
        head_dim: width of a head.
        max_positions: the context length that the file names.
        checkpoint: the file's tensors.

    Returns:
        The frequencies, and the longest sequence for which they hold.

    Raises:
        EpoError: a scaling that is not known, or an impossible value.
    """

    def of(name: str, default: Any = None) -> Any:
        return metadata.get(f"{prefix}.rope.{name}", default)

    source = checkpoint.source
    turned = of("dimension_count", head_dim)
    if isinstance(turned, bool) or not isinstance(turned, int) or not 2 <= turned <= head_dim or turned % 2:
        raise EpoError(
            f"{source}: {prefix}.rope.dimension_count={turned!r} is no even number of a head's {head_dim} components"
        )
    original, attention = of("scaling.original_context_length"), of("scaling.attn_factor")
    kind = of("scaling.type", "none")
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": of("freq_base", 10000.0)}
    factors = {name: _factors(checkpoint, f"rope_{name}.weight") for name in ("freqs", "factors_short", "factors_long")}
    if factors["factors_short"] is not None or factors["factors_long"] is not None:
        rope |= {"rope_type": "longrope", "short_factor": factors["factors_short"], ORIGINAL: original}
        rope |= {"long_factor": factors["factors_long"], "attention_factor": attention}
    elif kind == "none":
        rope["rope_type"] = "default"
    elif kind == "linear":
        rope["factor"] = of("scaling.factor")
    elif kind == "yarn":
        rope |= {"factor": of("scaling.factor"), ORIGINAL: original}
        if attention is not None and isinstance(rope["factor"], float) and rope["factor"] > 1:
            # llama.cpp multiplies it with what YaRN recommends.
            rope["attention_factor"] = attention * (1 + 0.1 * math.log(rope["factor"]))
    else:
        raise EpoError(f"{source}: {prefix}.rope.scaling.type={kind!r} is not supported; none, linear or yarn is read")
    rope = {name: value for name, value in rope.items() if value is not None}
    rotary, positions = rotary_of(rope, turned, max_positions, source)
    if factors["freqs"] is not None:
        if len(factors["freqs"]) != turned // 2:
            raise EpoError(f"{source}: rope_freqs.weight has {len(factors['freqs'])} numbers, not {turned // 2}")
        divided = np.asarray(rotary.frequencies) / np.asarray(factors["freqs"])
        rotary = dataclasses.replace(rotary, frequencies=tuple(divided.tolist()))
    return rotary, positions


def _factors(checkpoint: Checkpoint, name: str) -> list[float] | None:
    if name not in checkpoint.shapes:
        return None
    values = checkpoint.read(name).reshape(-1)
    if not np.all(np.isfinite(values) & (values > 0)):
        raise EpoError(f"{checkpoint.source}: tensor {name} holds numbers that are not above 0")
    factors: list[float] = values.astype(float).tolist()
    return factors
