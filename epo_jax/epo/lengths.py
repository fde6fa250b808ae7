"""Prompts of fewer tokens than there is room for: pads fill them up, at their end and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Int32, Integer

# Stands in the places behind a prompt's last token.
PAD = -1


def lengths_of(ids: Int32[Array, "*N T"]) -> Int32[Array, "*N"]:
    """How many tokens each prompt has."""
    return (ids != PAD).sum(axis=-1, dtype=jnp.int32)


def whole(ids: Int32[Array, "*N T"], least: int) -> Bool[Array, "*N"]:
    """Which are prompts of at least so many tokens, with no pad before a token."""
    there = ids != PAD
    return (there[..., :-1] | ~there[..., 1:]).all(axis=-1) & (there.sum(axis=-1) >= least)


def told_apart(ids: Int32[Array, "*N T"]) -> Int32[Array, "*N T"]:
    """The same with pads that are all different, so that none of them repeats another."""
    return jnp.where(ids == PAD, -1 - jnp.arange(ids.shape[-1]), ids)


def bare(ids: Integer[np.ndarray, "*N T"]) -> Integer[np.ndarray, " n"]:
    """A prompt's own tokens; of several prompts all of theirs, one after the other."""
    return ids[ids != PAD]


def padded(prompts: Sequence[Sequence[int]], length: int) -> Int32[np.ndarray, "N T"]:
    """Prompts of at most so many tokens as one array."""
    ids = np.full((len(prompts), length), PAD, np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    return ids


def by_length(
    prompts: Sequence[Int32[np.ndarray, " _"]], function: Callable[[Int32[np.ndarray, "N n"]], Iterable[Any]]
) -> list[Any]:
    """What a function of prompts of one length gives for each of prompts of any lengths."""
    found: dict[int, Any] = {}
    for length in sorted({len(prompt) for prompt in prompts}):
        rows = [row for row, prompt in enumerate(prompts) if len(prompt) == length]
        found.update(zip(rows, function(np.stack([prompts[row] for row in rows])), strict=True))
    return [found[row] for row in range(len(prompts))]
