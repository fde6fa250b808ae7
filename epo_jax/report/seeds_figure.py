"""The frontiers of many seeds of one feature, and what they reach together (figure 2 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from epo_jax.report.data import format_feature
from epo_jax.report.line import Line, limits_of, together
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.sheet import COLUMN, Key, new_sheet


def seeds_figure(lines: Sequence[Line], title: str, *, palette: Palette = LIGHT, width: float = COLUMN) -> Figure:
    """All frontiers thin, the frontier of all their prompts thick, and beside it the maximum of each seed.

    Args:
        lines: The frontier of each seed.
        title: Any characters.
        palette: Colours.
        width: Inches.
    """
    all_of_them = together(lines, "all together")
    grid, middle = median_of(lines)
    keys = [
        Key("one seed", {"color": palette.random, "linewidth": 0.7}),
        Key("their median", {"color": palette.ink, "linewidth": 1.2, "linestyle": (0, (4, 2))}),
        Key("all together", {"color": palette.dream, "linewidth": 2.0}),
    ]
    x, y = limits_of(lines)
    sheet = new_sheet(title, f"{len(lines):,} seeds", keys, x, y, palette, width=width, right=0.86)
    for line in lines:
        sheet.axes.plot(*line.points.T, **keys[0].style, alpha=0.8, zorder=2)
    sheet.axes.plot(grid, middle, **keys[1].style, zorder=4)
    sheet.axes.plot(*all_of_them.points.T, **keys[2].style, zorder=3)
    return sheet.figure


def median_of(lines: Sequence[Line]) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """The median over lines of the largest feature up to a cross-entropy, where more than half have one.

    Returns:
        float64[n], the cross-entropies at which it changes, and float64[n].
    """
    grid = np.unique(np.concatenate([np.zeros(0), *(line.points[:, 0] for line in lines)]))
    reached = np.full((len(lines), len(grid)), -np.inf)
    for row, line in zip(reached, lines, strict=True):
        points = line.points
        best = np.concatenate([[-np.inf], np.maximum.accumulate(points[:, 1])])
        row[:] = best[np.searchsorted(points[:, 0], grid, side="right")]
    middle = np.median(reached, axis=0) if len(lines) else np.zeros(0)
    return grid[np.isfinite(middle)], middle[np.isfinite(middle)]


def seeds_sentence(lines: Sequence[Line], feature: str, limit: float = math.inf) -> str:
    """What the seeds reach, in one sentence; `limit` in nats/token, below which prompts count."""
    reached = np.array([line.largest(limit) for line in lines])
    known = reached[np.isfinite(reached)]
    where = "" if math.isinf(limit) else f" below {limit:g} nats/token"
    if not known.size:
        return f"None of {len(lines)} seeds has a prompt of {feature}{where}."
    low, middle, high = format_feature(np.array([known.min(), np.median(known), known.max()]))
    start = f"{len(lines)} seeds of {feature}{where}: maximum from {low} to {high}, {middle} in the median"
    without = len(reached) - known.size
    return f"{start} ({without} without such a prompt)." if without else f"{start}."
