"""Weight maps from the names that a family's files give to the decoder's parts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from epo_jax.models.checkpoint import Transform, Weight, as_is, transposed
from epo_jax.models.config import DecoderConfig


def weight_map(
    embedding: str,
    head: str,
    norms: Mapping[str, str],
    projections: Mapping[str, str | tuple[str, Transform]],
    *,
    positions: str = "",
    scale: Transform = as_is,
) -> tuple[Weight, ...]:
    """The map of a family, biases included; parts that a model lacks are never asked for.

    Args:
        embedding: what files call the embedding, like all names here without ".weight".
        head: the same of the head, which is stored as (out, in).
        norms: path of a norm in the decoder -> its name.
        projections: path of a projection below `blocks` -> its name, alone or with the layout of kernel and bias; alone
            it is stored as (out, in).
        positions: what files call the embedding of positions.
        scale: what becomes of norms' scales.
    """
    # A bias has one axis, which a transposition leaves as it is.
    layouts = {ours: (name, transposed) if isinstance(name, str) else name for ours, name in projections.items()}
    return (
        Weight("embedding.embedding", f"{embedding}.weight"),
        Weight("positions.embedding", f"{positions}.weight"),
        Weight("head.kernel", f"{head}.weight", transposed),
        Weight("head.bias", f"{head}.bias"),
        *(Weight(f"{ours}.scale", f"{name}.weight", scale) for ours, name in norms.items()),
        *(Weight(f"{ours}.bias", f"{name}.bias") for ours, name in norms.items()),
        *(Weight(f"blocks.{ours}.kernel", f"{name}.weight", layout) for ours, (name, layout) in layouts.items()),
        *(Weight(f"blocks.{ours}.bias", f"{name}.bias", layout) for ours, (name, layout) in layouts.items()),
    )


def part_of_rows(number: int) -> Transform:
    """Queries (0), keys (1) or values (2) out of fused rows (out, in): all queries, then all keys, then all values."""

    def take(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
        return _part(tensor, config, number, 0).T

    return take


def part_of_columns(number: int) -> Transform:
    """The same out of fused columns (in, out)."""

    def take(tensor: np.ndarray, config: DecoderConfig) -> np.ndarray:
        return _part(tensor, config, number, -1)

    return take


def _part(tensor: np.ndarray, config: DecoderConfig, number: int, axis: int) -> np.ndarray:
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    if not tensor.ndim or tensor.shape[axis] != queries + 2 * keys:
        raise ValueError(f"shape {tensor.shape} does not hold {queries} + 2 x {keys} rows")
    return np.split(tensor, (queries, queries + keys), axis)[number]
