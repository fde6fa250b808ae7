"""A method against the paper's search on the same features and seeds, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64

RESAMPLES = 2000
SEED = 0
INTERVAL = (0.025, 0.975)

Pairs = Mapping[tuple[str, int], tuple[float, float]]
"""By feature and seed, what the method has and what the reference has."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number, and the 95% interval in which it lies when features, and seeds within them, are drawn again."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Against:
    """A method against the reference.

    Attributes:
        pairs: of feature and seed that both have.
        features: that they are of.
        ratio: the method's hypervolume by the reference's, median over pairs.
        won: share of features of which the method's hypervolume, mean over seeds, is larger; ties are halves.
        rows: the method's rows by the reference's until each has the reference's last hypervolume, median over pairs;
            infinite for a pair whose method never has it.
    """

    pairs: int
    features: int
    ratio: Estimate
    won: Estimate
    rows: Estimate


def against(hypervolumes: Pairs, rows: Pairs) -> Against | None:
    """A method against the reference; None where there is no pair.

    Args:
        hypervolumes: of method and reference.
        rows: that each took to the reference's last hypervolume; of the same pairs.
    """
    if not hypervolumes:
        return None
    names = sorted({feature for feature, _ in hypervolumes})
    draws = _draws([sorted(key for key in hypervolumes if key[0] == name) for name in names])
    keys = sorted(hypervolumes)
    own, others = (np.array([hypervolumes[key][side] for key in keys]) for side in (0, 1))
    taken, theirs = (np.array([rows[key][side] for key in keys]) for side in (0, 1))
    return Against(
        pairs=len(keys),
        features=len(names),
        ratio=_estimate(_medians(_ratios(own, others), draws)),
        won=_estimate(_won(own, others, draws)),
        rows=_estimate(_medians(_ratios(taken, theirs), draws)),
    )


def _draws(groups: list[list[tuple[str, int]]]) -> Int64[np.ndarray, "B F S"]:
    """Places of pairs, feature by feature; the first draw is the pairs themselves, and -1 fills up."""
    rng = np.random.default_rng(SEED)
    sizes = np.array([len(group) for group in groups])
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    shape = (RESAMPLES + 1, len(groups), int(sizes.max()))
    which = rng.integers(len(groups), size=shape[:2])
    which[0] = np.arange(len(groups))
    within = (rng.random(shape) * sizes[which][..., None]).astype(np.int64)
    within[0] = np.arange(shape[2])
    there = np.arange(shape[2]) < sizes[which][..., None]
    return np.where(there, first[which][..., None] + within, -1)


def _ratios(own: Float64[np.ndarray, " n"], others: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Where neither has anything they are equal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(own == others, 1.0, own / others)


def _medians(values: Float64[np.ndarray, " n"], draws: Int64[np.ndarray, "B F S"]) -> Float64[np.ndarray, " B"]:
    return np.nanmedian(_drawn(values, draws).reshape(len(draws), -1), axis=1)


def _won(
    own: Float64[np.ndarray, " n"], others: Float64[np.ndarray, " n"], draws: Int64[np.ndarray, "B F S"]
) -> Float64[np.ndarray, " B"]:
    mean, theirs = (np.nanmean(_drawn(values, draws), axis=2) for values in (own, others))
    return np.where(mean == theirs, 0.5, mean > theirs).mean(axis=1)


def _drawn(values: Float64[np.ndarray, " n"], draws: Int64[np.ndarray, "B F S"]) -> Float64[np.ndarray, "B F S"]:
    return np.where(draws < 0, np.nan, values[draws])


def _estimate(values: Float64[np.ndarray, " B"]) -> Estimate:
    # Between an infinite value and another nothing can be interpolated.
    low, high = np.quantile(values[1:], INTERVAL, method="nearest")
    return Estimate(float(values[0]), float(low), float(high))
