"""Prompts of one kind as a picture shows them, and what they reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Line:
    """Prompts of one kind: a frontier, or dataset examples.

    Raises ValueError where lengths disagree.

    Attributes:
        name: What a legend calls them; any characters.
        cross_entropy: float[N], nats/token; may hold non-finite values, which are not drawn.
        feature: float[N]; likewise.
        tokens: The text of each token of each prompt; empty where texts are not to be shown.
    """

    name: str
    cross_entropy: Float[np.ndarray, "N"]
    feature: Float[np.ndarray, "N"]
    tokens: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.cross_entropy), len(self.feature)} | ({len(self.tokens)} if self.tokens else set())
        if len(lengths) > 1:
            raise ValueError(f"the lengths of {self.name!r} disagree: {sorted(lengths)}")

    @property
    def order(self) -> np.ndarray:
        """int[n], the prompts with finite values, the most fluent first."""
        x, y = np.asarray(self.cross_entropy, np.float64), np.asarray(self.feature, np.float64)
        rows = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        return rows[np.lexsort((y[rows], x[rows]))]

    @property
    def points(self) -> Float[np.ndarray, "n 2"]:
        """float64[n, 2], cross-entropy and feature of the prompts with finite values, the most fluent first."""
        return np.stack([self.cross_entropy, self.feature], axis=1)[self.order].astype(np.float64)

    def best(self, limit: float = math.inf, *, including: bool = False) -> int | None:
        """The prompt with the largest feature below `limit` nats/token, or up to it; None without one."""
        rows = self.order
        nats = np.asarray(self.cross_entropy, np.float64)[rows]
        rows = rows[nats <= limit if including else nats < limit]
        return int(rows[np.argmax(np.asarray(self.feature)[rows])]) if len(rows) else None

    def largest(self, limit: float = math.inf, *, including: bool = False) -> float:
        """The feature of `best`; NaN without one."""
        row = self.best(limit, including=including)
        return math.nan if row is None else float(self.feature[row])


def together(lines: Sequence[Line], name: str) -> Line:
    """The frontier of all prompts of several lines: those that are best for some fluency penalty from 0 on."""
    points = np.concatenate([np.zeros((0, 2)), *(line.points for line in lines)])
    points = points[np.lexsort((-points[:, 1], points[:, 0]))]
    hull: list[np.ndarray] = []
    for point in points:
        if hull and point[1] <= hull[-1][1]:
            continue
        while len(hull) >= 2 and _below(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    found = np.array(hull).reshape(-1, 2)
    return Line(name, found[:, 0], found[:, 1])


def limits_of(lines: Sequence[Line], levels: Sequence[float] = ()) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of cross-entropy and feature within which all points of the lines and all levels of the feature lie."""
    points = np.concatenate([np.zeros((0, 2)), *(line.points for line in lines)])
    return padded(points[:, 0]), padded(np.concatenate([points[:, 1], levels]))


def padded(values: Sequence[float] | Float[np.ndarray, "n"], share: float = 0.05) -> tuple[float, float]:
    """Limits that hold the finite values, with a share of their range to spare on both sides; 0 and 1 for none."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    room = share * ((high - low) or max(abs(high), 1e-3))
    return low - room, high + room


def _below(left: np.ndarray, middle: np.ndarray, right: np.ndarray) -> bool:
    return bool((middle[1] - left[1]) * (right[0] - left[0]) < (right[1] - left[1]) * (middle[0] - left[0]))
