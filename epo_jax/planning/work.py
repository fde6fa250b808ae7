"""How much an iteration computes and moves, where loops run as often as the edits that are drawn ask for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from epo_jax.dream.memory import scorer_of
from epo_jax.epo import Algorithm
from epo_jax.parallel.collectives import Collective
from epo_jax.scoring.packing import least_share

DRAWS = 200


@dataclasses.dataclass(frozen=True)
class Trips:
    """How often the loops of an iteration run whose number of trips depends on the edits, on average.

    Attributes:
        blocks: of rows.
        chunks: for each size of a product, how often it runs in a layer, in all blocks of an iteration together.
    """

    blocks: float
    chunks: Mapping[int, float]


def expected_trips(algorithm: Algorithm) -> Trips:
    """Trips of a device's loops, for edits that are drawn uniformly."""
    blocks, sharing = scorer_of(algorithm).blocks, algorithm.sharing
    count = sharing.units * sharing.children_per_part
    width = algorithm.length + scorer_of(algorithm).after
    random = np.random.default_rng(0)
    found, chunks = 0, dict.fromkeys(blocks.chunks, 0)
    for _ in range(DRAWS):
        rows = width - random.integers(0, algorithm.length, count)
        share = np.maximum(rows, least_share(width))
        block = (np.cumsum(share) - share) // (blocks.rows - width + 1)
        found += int(block[-1]) + 1
        for of_one in np.bincount(block, weights=rows):
            left = math.ceil(of_one / blocks.chunks[-1]) * blocks.chunks[-1] if blocks.chunks else 0
            for size in blocks.chunks:
                chunks[size] += int(left // size)
                left %= size
    return Trips(found / DRAWS, {size: times / DRAWS for size, times in chunks.items()})


def times_of(one: Collective, trips: Trips) -> float:
    """How often a collective runs in an iteration.

    The outermost loop is that over iterations; of those with unknown trips the outermost is that over blocks, and one
    inside it that over the products of a size, which is a dimension of what the collective gives.
    """
    inside = one.loops[1:]
    known = math.prod(trip for trip in inside if trip is not None)
    unknown = inside.count(None)
    if unknown == 0:
        return known
    if unknown == 1:
        return known * trips.blocks
    sizes = [size for size in trips.chunks if size in one.shape]
    return known * (trips.chunks[sizes[0]] if sizes else sum(trips.chunks.values()))


def bytes_by_kind(found: Iterable[Collective], trips: Trips) -> dict[str, float]:
    """Bytes that a device gets in an iteration, by kind of collective."""
    total: dict[str, float] = {}
    for one in found:
        # Alone in its group, a device gets nothing.
        if one.groups and all(len(group) == 1 for group in one.groups):
            continue
        total[one.kind] = total.get(one.kind, 0.0) + one.bytes * times_of(one, trips)
    return total
