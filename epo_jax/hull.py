"""Which of many scored prompts are best for some fluency penalty: exact, and of plain numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int


def hull_rows(
    feature: Float[np.ndarray, " M"], cross_entropy: Float[np.ndarray, " M"], pool: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " k"]:
    """Rows that are best for some penalty in [0, infinity), by cross-entropy and row; all of those with equal values.

    What ties at penalty 0 or without end is decided by the other value, so that none is dominated by another. Rows that
    are not finite are left out.

    Args:
        feature: of M prompts.
        cross_entropy: nats/token.
        pool: rows that are looked at.
    """
    pool = pool[np.isfinite(feature[pool]) & np.isfinite(cross_entropy[pool])]
    x, y = cross_entropy[pool], feature[pool]
    order = np.lexsort((pool, -y, x))
    # Only a row that beats all more fluent ones can be best for any penalty.
    heights = y[order]
    rising = np.ones(len(order), bool)
    rising[1:] = heights[1:] > np.maximum.accumulate(heights)[:-1]
    hull: list[tuple[Fraction, Fraction]] = []
    for place in order[rising]:
        point = (Fraction(float(x[place])), Fraction(float(y[place])))
        while len(hull) >= 2 and _below(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    best = {(float(a), float(b)) for a, b in hull}
    return pool[[place for place in order if (float(x[place]), float(y[place])) in best]]


def _below(
    left: tuple[Fraction, Fraction], middle: tuple[Fraction, Fraction], right: tuple[Fraction, Fraction]
) -> bool:
    # Exact: rounding here would drop or keep a prompt by chance.
    return (middle[1] - left[1]) * (right[0] - left[0]) < (right[1] - left[1]) * (middle[0] - left[0])
