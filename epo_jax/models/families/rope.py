"""Rotary positions from what config.json says of them, every scaling worked into the frequencies.

The scalings are those of transformers' modeling_rope_utils: linear (Position Interpolation, arXiv 2306.15595), dynamic
(NTK-aware), YaRN (arXiv 2309.00071), LongRoPE (arXiv 2402.13753) and Llama 3.1's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models.config import Rotary
from epo_jax.models.rotary import frequencies_of

PARTIAL = "partial_rotary_factor"
ORIGINAL = "original_max_position_embeddings"


def rotary_of(
    rope: object, head_dim: int, max_positions: int, source: str, *, partial: bool = False
) -> tuple[Rotary, int]:
    """How heads turn.

    Args:
        rope: config.json's rope_parameters, as transformers normalizes them.
        head_dim: width of a head.
        max_positions: config.json's max_position_embeddings.
        source: the file or folder, for messages.
        partial: whether the family lets only a share of each head turn.

    Returns:
        The frequencies, and the longest sequence for which they hold: where they follow the sequence's length beyond
        some length, that one.

    Raises:
        EpoError: a scaling that is not known, a setting that is missing, unknown or impossible.
    """
    if not isinstance(rope, Mapping):
        raise EpoError(f"{source}: rope_parameters is {rope!r}, where an object is read")
    kind = rope.get("rope_type", "default")
    if not isinstance(kind, str) or kind not in _SCALINGS:
        raise EpoError(
            f"{source}: rope_parameters={dict(rope)} is not supported; rope_type is one of {', '.join(_SCALINGS)}"
        )
    needs, may, scale = _SCALINGS[kind]
    # All of each head turns in every family.
    shares = [PARTIAL] if partial or rope.get(PARTIAL) == 1 else []
    known = {"rope_theta", *needs, *may, *shares}
    # transformers has read the type from either name, and calls all that Phi 3 has had by one name.
    kinds = (kind, "su", "yarn") if kind == "longrope" else (kind,)
    problems = [f"type={rope['type']!r}"] if rope.get("type", kind) not in kinds else []
    problems += [f"{name}={rope[name]!r} is not known" for name in rope if name not in known | {"rope_type", "type"}]
    # Where nothing stands for a default, transformers reads these otherwise.
    problems += [f"{name} is nothing" for name in (PARTIAL, "truncate") if rope.get(name, 1) is None]
    problems += [f"lacks {name}" for name in ("rope_theta", *needs) if rope.get(name) is None]
    numbers = {name: value for name, value in rope.items() if name in known and value is not None}
    problems += [f"{name}={value!r}" for name, value in numbers.items() if not _possible(name, value)]
    if problems:
        raise EpoError(f"{source}: rope_parameters of rope_type {kind!r}: {', '.join(problems)}")
    turned = int(head_dim * numbers.get(PARTIAL, 1.0))
    if turned < 2 or turned % 2:
        raise EpoError(
            f"{source}: rotary positions turn {turned} of a head's {head_dim} components, where an even number is read"
        )
    if kind == "llama3" and numbers["low_freq_factor"] >= numbers["high_freq_factor"]:
        raise EpoError(
            f"{source}: low_freq_factor={numbers['low_freq_factor']} is not below "
            f"high_freq_factor={numbers['high_freq_factor']}"
        )
    for name in ("long_factor", "short_factor"):
        if name in numbers and len(numbers[name]) != turned // 2:
            raise EpoError(f"{source}: {name} has {len(numbers[name])} numbers, where {turned // 2} are read")
    plain = np.asarray(frequencies_of(numbers["rope_theta"], turned))
    frequencies, factor, positions = scale(plain, numbers, max_positions)
    return Rotary(tuple(frequencies.tolist()), float(factor)), positions


Scaling = Callable[[np.ndarray, Mapping[str, Any], int], tuple[np.ndarray, float, int]]


def _default(plain: np.ndarray, _rope: Mapping[str, Any], positions: int) -> tuple[np.ndarray, float, int]:
    # "dynamic" too: it changes nothing in sequences that are not longer than the model was trained on.
    return plain, 1.0, positions


def _linear(plain: np.ndarray, rope: Mapping[str, Any], positions: int) -> tuple[np.ndarray, float, int]:
    return plain / rope["factor"], 1.0, positions


def _llama3(plain: np.ndarray, rope: Mapping[str, Any], positions: int) -> tuple[np.ndarray, float, int]:
    turns = rope.get(ORIGINAL, positions) * plain / (2 * np.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    # Of each frequency the share that stays: all of it above `high` turns in the original length, none below `low`.
    share = np.clip((turns - low) / (high - low), 0, 1)
    return share * plain + (1 - share) * plain / rope["factor"], 1.0, positions


def _yarn(plain: np.ndarray, rope: Mapping[str, Any], positions: int) -> tuple[np.ndarray, float, int]:
    original, dimensions = rope.get(ORIGINAL, positions), 2 * len(plain)
    factor = rope.get("factor", positions / original)

    def component(turns: float) -> float:
        """Where a component makes so many turns within the original length."""
        return dimensions * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rope["rope_theta"]))

    low, high = component(rope.get("beta_fast", 32)), component(rope.get("beta_slow", 1))
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dimensions - 1)
    share = 1 - np.clip((np.arange(len(plain)) - low) / ((high - low) or 0.001), 0, 1)

    def magnitude(scale: float = 1.0) -> float:
        return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0

    attention = rope.get("attention_factor")
    if attention is None:
        both = rope.get("mscale") and rope.get("mscale_all_dim")
        attention = magnitude(rope["mscale"]) / magnitude(rope["mscale_all_dim"]) if both else magnitude()
    return share * plain + (1 - share) * plain / factor, attention, positions


def _longrope(plain: np.ndarray, rope: Mapping[str, Any], positions: int) -> tuple[np.ndarray, float, int]:
    original = rope.get(ORIGINAL, positions)
    factor = rope.get("factor", positions / original)
    attention = rope.get("attention_factor")
    if attention is None:
        attention = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return plain / np.asarray(rope["short_factor"], float), attention, min(original, positions)


# rope_type -> settings that must be there, those that may, and what they do.
_SCALINGS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], Scaling]] = {
    "default": ((), (), _default),
    "linear": (("factor",), (), _linear),
    "dynamic": (("factor",), (ORIGINAL,), _default),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor"), (ORIGINAL,), _llama3),
    "yarn": (
        (),
        # The last says that the model was trained further with the scaling, which changes nothing.
        tuple(
            f"factor {ORIGINAL} attention_factor beta_fast beta_slow mscale mscale_all_dim truncate finetuned".split()
        ),
        _yarn,
    ),
    "longrope": (("short_factor", "long_factor"), ("factor", ORIGINAL, "attention_factor"), _longrope),
}


def _possible(name: str, value: Any) -> bool:
    if name in ("truncate", "finetuned"):
        return isinstance(value, bool)
    if name in ("short_factor", "long_factor"):
        return isinstance(value, list) and all(map(positive, value))
    if not positive(value):
        return False
    # Below or at one there is no logarithm to divide by; beyond it all of a head would turn more than once.
    return not (name == PARTIAL and value > 1) and not (name in ("rope_theta", ORIGINAL) and value <= 1)


def positive(value: object) -> bool:
    """Whether this is a finite number above 0."""
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 < value < math.inf
