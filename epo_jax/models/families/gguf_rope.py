"""Rotary positions from a GGUF file: its metadata, and the tensors in which llama.cpp keeps factors of frequencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.config import Rotary
from epo_jax.models.families.rope import ORIGINAL, positive, rotary_of

_YARN = {
    "scaling.original_context_length": ORIGINAL,
    "scaling.yarn_beta_fast": "beta_fast",
    "scaling.yarn_beta_slow": "beta_slow",
    # All of the factor, though llama.cpp's other key below holds what comes on top of YaRN's own.
    "scaling.yarn_attn_factor": "attention_factor",
}
# Keys behind the family's prefix, for `gguf_settings`.
ROPE_KEYS = tuple(
    f"rope.{key}"
    for key in (
        *"dimension_count freq_base scale_linear scaling.type scaling.factor scaling.attn_factor".split(),
        *"scaling.finetuned scaling.yarn_ext_factor scaling.yarn_log_multiplier".split(),
        *_YARN,
    )
)
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
    # llama.cpp scales linearly by a factor that comes without a type, and reads an older name of it.
    factor = of("scaling.factor", of("scale_linear"))
    kind = of("scaling.type", "none" if factor is None else "linear")
    extra = of("scaling.attn_factor", 1.0)
    if not positive(extra):
        raise EpoError(f"{source}: {prefix}.rope.scaling.attn_factor={extra!r} is no number above 0")
    short, long, divisors = (
        _factors(checkpoint, f"rope_{name}.weight") for name in ("factors_short", "factors_long", "freqs")
    )
    if kind == "none" and (short or long):
        # Files of Phi 3 from before llama.cpp named this type.
        kind = "longrope"
    if (kind != "longrope" and (short or long)) or (kind == "longrope" and factor is not None):
        raise EpoError(
            f"{source}: {prefix}.rope.scaling.type={kind!r} with scaling.factor={factor!r} and rope_factors tensors, "
            "of which longrope alone has the tensors, and no factor"
        )
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": of("freq_base", 10000.0)}
    if kind == "none":
        rope["rope_type"] = "default"
    elif kind == "linear":
        rope["factor"] = factor
    elif kind == "longrope":
        # The key holds the attention factor itself, which follows from the lengths where it is not there.
        rope |= {"attention_factor": of("scaling.attn_factor"), "short_factor": short, "long_factor": long}
        rope[ORIGINAL] = of("scaling.original_context_length")
        extra = 1.0
    elif kind == "yarn":
        rope |= {"factor": factor, **{name: of(key) for key, name in _YARN.items()}}
        if of("scaling.yarn_log_multiplier", 0) != 0:
            rope |= {"mscale": 1.0, "mscale_all_dim": of("scaling.yarn_log_multiplier")}
        if factor is None or of("scaling.yarn_ext_factor", 1) != 1:
            raise EpoError(
                f"{source}: {prefix}.rope.scaling.type='yarn' with factor={factor!r} and "
                f"yarn_ext_factor={of('scaling.yarn_ext_factor')!r}, where a number and 1, or nothing, are read"
            )
    else:
        raise EpoError(
            f"{source}: {prefix}.rope.scaling.type={kind!r} is not supported; none, linear, yarn or longrope is read"
        )
    rope = {name: value for name, value in rope.items() if value is not None}
    rotary, positions = rotary_of(rope, turned, max_positions, source)
    if divisors is not None:
        if len(divisors) != turned // 2:
            raise EpoError(f"{source}: rope_freqs.weight has {len(divisors)} numbers, not {turned // 2}")
        divided = np.asarray(rotary.frequencies) / np.asarray(divisors)
        rotary = dataclasses.replace(rotary, frequencies=tuple(divided.tolist()))
    return dataclasses.replace(rotary, factor=rotary.factor * extra), positions


def _factors(checkpoint: Checkpoint, name: str) -> list[float] | None:
    if name not in checkpoint.shapes:
        return None
    values = checkpoint.read(name).reshape(-1)
    if not np.all(np.isfinite(values) & (values > 0)):
        raise EpoError(f"{checkpoint.source}: tensor {name} holds numbers that are not above 0")
    factors: list[float] = values.astype(float).tolist()
    return factors
