"""The frontiers of many seeds of one feature, and what they reach together (figure 2 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from epo_jax.report.data import format_feature
from epo_jax.report.line import Line, limits_of, together
from epo_jax.report.margin import Level, label_levels, margin_for
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.sheet import COLUMN, Key, draw_line, new_sheet

_RUG = 0.2  # inches from the axes to the labels; each seed's maximum is a stroke between them


def seeds_figure(lines: Sequence[Line], title: str, *, palette: Palette = LIGHT, width: float = COLUMN) -> Figure:
    """All frontiers thin, the frontier of all their prompts thick, and beside them the maximum of each seed.

    Args:
        lines: The frontier of each seed.
        title: Any characters.
        palette: Colours.
        width: Inches.
    """
    keys = [
        Key("one seed", {"color": palette.ramp[1], "linewidth": 0.7}),
        Key("median", {"color": palette.ink, "linewidth": 1.2, "linestyle": (0, (4, 1.5))}),
        Key("all together", {"color": palette.dream, "linewidth": 2.0}),
    ]
    maxima = np.array([line.largest() for line in lines])
    levels = _levels(maxima[np.isfinite(maxima)], palette)
    x, y = limits_of(lines)
    right = margin_for(levels, start=_RUG)
    sheet = new_sheet(title, f"{len(lines):,} seeds", keys, x, y, palette, width=width, right=right)
    one, middle, whole = (key.style for key in keys)
    for line in lines:
        sheet.axes.plot(*line.points.T, **one, zorder=2)
    sheet.axes.plot(*median_of(lines), **middle, zorder=4)
    sheet.axes.plot(*together(lines, "all together").points.T, **whole, zorder=3)
    left, bottom, wide, high = sheet.frame
    for value in maxima[np.isfinite(maxima)]:
        at = bottom + (value - y[0]) / (y[1] - y[0]) * high
        draw_line(sheet.figure, [left + wide + 0.06, left + wide + _RUG - 0.03], [at, at], **one)
    label_levels(sheet, levels, start=_RUG)
    return sheet.figure


def median_of(lines: Sequence[Line]) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """The median of the frontiers as they are drawn, each at its maximum beyond its end.

    Returns:
        float64[n], cross-entropies at which more than half of the frontiers have begun, and float64[n].
    """
    finite = [line.points for line in lines if len(line.points)]
    grid = np.unique(np.concatenate([np.zeros(0), *(points[:, 0] for points in finite)]))
    if not finite:
        return grid, grid
    reached = np.stack([np.interp(grid, points[:, 0], points[:, 1], left=-np.inf) for points in finite])
    middle = np.median(reached, axis=0)
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


def _levels(maxima: Float[np.ndarray, "n"], palette: Palette) -> list[Level]:
    if not maxima.size:
        return []
    values = [float(maxima.max()), float(np.median(maxima)), float(maxima.min())]
    texts = format_feature(np.array(values))
    names = ("best", "median", "worst") if maxima.size > 1 else ("best",)
    return [
        Level(value, f"{name} {text}", palette.ink, name == "best")
        for value, text, name in zip(values, texts, names, strict=False)
    ]
