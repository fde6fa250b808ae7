"""Rows of candidates packed densely: which candidates make a block, and in which order its rows stand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int32

# Rows that one matrix product takes, largest first, each a multiple of the next, so that a traced number of rows is run
# in few products with at most the last size of padding. More sizes would cost more compilation than they save time.
CHUNKS = (1024, 256, 64)
# Rows of a block, at most; where there are more, they make several blocks.
MOST_ROWS = 8192


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Static sizes of the work on packed rows.

    Attributes:
        rows: rows of a block, which holds whole candidates.
        chunks: sizes of the products that a block's rows are run in, so that unused rows cost nothing; empty where a
            block is run whole, which suits a GPU: there each traced trip count makes the device wait for the host.
    """

    rows: int
    chunks: tuple[int, ...]


def least_share(width: int) -> int:
    """Rows that each candidate counts for at least, so that the candidates of a block are bounded too."""
    return -(-width // 4)


def default_blocks(candidates: int, length: int, suffix: int, platform: str, micro_batch: int | None = None) -> Blocks:
    """Sizes for candidates whose first edits are spread evenly over the optimized tokens.

    Args:
        candidates: scored together on one device.
        length: optimized tokens.
        suffix: tokens after them.
        platform: "cpu", "gpu" or "tpu".
        micro_batch: rows of a block; by default enough for all rows, within limits.
    """
    width = length + suffix
    everything = candidates * width
    if micro_batch is None and platform == "gpu":
        # One block, or blocks of about 2,048 rows, with room for 2.5 standard deviations of the sum of rows.
        shares = [max(width - edit, least_share(width)) for edit in range(length)]
        mean = sum(shares) / length
        variance = sum((share - mean) ** 2 for share in shares) / length
        expected = candidates * mean + 2.5 * math.sqrt(candidates * variance)
        trips = max(1, round(expected / 2048))
        micro_batch = math.ceil(expected / trips) + width - 1
    rows = max(width, min(everything, micro_batch or MOST_ROWS))
    multiple = 8 if platform == "gpu" else CHUNKS[-1]
    rows = -(-rows // multiple) * multiple
    return Blocks(rows, () if platform == "gpu" else tuple(size for size in CHUNKS if size <= rows))


def block_of(rows: Int32[Array, " C"], width: int, capacity: int) -> Int32[Array, " C"]:
    """The block that each candidate falls into, never falling.

    A block's candidates start within `capacity - width + 1` rows of each other, so that the last one still fits whole.
    """
    share = jnp.maximum(rows, least_share(width))
    return (jnp.cumsum(share) - share) // (capacity - width + 1)


def most_candidates(candidates: int, width: int, capacity: int) -> int:
    """Candidates that one block may have to hold."""
    return min(candidates, -(-(capacity - width + 1) // least_share(width)))


def in_chunks(
    function: Callable[[Any, Any], Any],
    count: Int32[Array, ""],
    sizes: tuple[int, ...],
    inputs: Any,
    outputs: Any,
    first: Int32[Array, ""] | int = 0,
) -> Any:
    """Run a function over `count` rows of arrays, and over no more than the last size beyond them.

    Args:
        function: (rows of inputs, rows of outputs) -> new rows of outputs.
        count: traced number of rows.
        sizes: rows at a time, each a multiple of the next; empty for all rows at once, whatever the count.
        inputs: a pytree of arrays with a leading axis of rows.
        outputs: likewise; those of rows that are not run stay as they are.
        first: traced number of the first row. Where the rows left from there on are fewer than a size, some before them
            are run as well, so results must depend on inputs alone.
    """
    if not sizes:
        return function(inputs, outputs)
    left = -(-count // sizes[-1]) * sizes[-1]
    start = jnp.zeros_like(count) + first
    for size in sizes:
        trips = left // size

        def run(trip: Array, outputs: Any, size: int = size, start: Array = start) -> Any:
            at = start + trip * size
            part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, at, size), (inputs, outputs))
            new = function(*part)
            return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, at, 0), outputs, new)

        outputs = jax.lax.fori_loop(0, trips, run, outputs)
        start, left = start + trips * size, left - trips * size
    return outputs
