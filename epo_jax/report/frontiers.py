"""The frontier as it was while a search went on."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Moment:
    """A frontier from the iteration that made it to the next one's.

    Attributes:
        iteration: the first that ended with this frontier.
        rows: its prompts as rows of the history, by ascending cross-entropy.
    """

    iteration: int
    rows: tuple[int, ...]


def frontiers(
    feature: Float[np.ndarray, " M"],
    cross_entropy: Float[np.ndarray, " M"],
    iteration: Int[np.ndarray, " M"],
    ids: Int[np.ndarray, "M T"] | None = None,
) -> tuple[Moment, ...]:
    """Every frontier that a search had: the prompts that were best for some fluency penalty in [0, infinity).

    Args:
        feature: of each scored prompt; values that are not finite are left out.
        cross_entropy: nats/token, likewise.
        iteration: that scored it.
        ids: its tokens, so that a prompt that was scored twice counts once; without them prompts with the same two
            values do.
    """
    order = np.argsort(iteration, kind="stable")
    starts = np.flatnonzero(np.diff(iteration[order], prepend=iteration.min(initial=0) - 1))
    finite = np.isfinite(feature) & np.isfinite(cross_entropy)
    moments: list[Moment] = []
    best = np.zeros(0, np.int64)
    for new in np.split(order, starts[1:]) if len(order) else ():
        # What an earlier frontier lacked can never come back, so that only the last one meets what is new.
        best = _best(feature, cross_entropy, np.sort(np.concatenate([best, new[finite[new]]])))
        rows = _once(best, feature, cross_entropy, ids)
        if rows and (not moments or rows != moments[-1].rows):
            moments.append(Moment(int(iteration[new[0]]), rows))
    return tuple(moments)


def _best(
    feature: Float[np.ndarray, " M"], cross_entropy: Float[np.ndarray, " M"], pool: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " k"]:
    """The rows of the pool on its concave hull, repeated values included, by cross-entropy, feature and row."""
    x, y = cross_entropy[pool], feature[pool]
    order = np.lexsort((pool, -y, x))
    heights = y[order]
    # Only a row that beats all more fluent ones can be best for any penalty.
    rising = np.ones(len(order), bool)
    rising[1:] = heights[1:] > np.maximum.accumulate(heights)[:-1]
    hull: list[tuple[Fraction, Fraction]] = []
    for place in order[rising]:
        point = (Fraction(float(x[place])), Fraction(float(y[place])))
        while len(hull) >= 2 and _slope(hull[-2], hull[-1]) < _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    on_hull = {(float(a), float(b)) for a, b in hull}
    return pool[[place for place in order if (float(x[place]), float(y[place])) in on_hull]]


def _slope(left: tuple[Fraction, Fraction], right: tuple[Fraction, Fraction]) -> Fraction:
    # Exact: rounding here would drop or keep a prompt by chance.
    return (right[1] - left[1]) / (right[0] - left[0])


def _once(
    rows: Int[np.ndarray, " k"],
    feature: Float[np.ndarray, " M"],
    cross_entropy: Float[np.ndarray, " M"],
    ids: Int[np.ndarray, "M T"] | None,
) -> tuple[int, ...]:
    """The first row of each prompt."""
    first: dict[object, int] = {}
    for row in rows.tolist():
        first.setdefault((feature[row], cross_entropy[row]) if ids is None else ids[row].tobytes(), row)
    return tuple(first.values())
