"""A run as a piece of HTML for a notebook's cell: no scripts, no ids, and styles that reach nothing outside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from epo_jax.report import data as numbers
from epo_jax.report.data import FLUENT_BELOW, ReportData
from epo_jax.report.pages import template
from epo_jax.report.tokens import join_visible, one_line, visible

# Of the picture, in its own units: size, and room for the axes' numbers.
WIDTH, HEIGHT = 640, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 40


class Tick(NamedTuple):
    """A number at an axis."""

    at: float
    text: str


def render_fragment(data: ReportData) -> str:
    """The frontier as a picture and a table; the best prompt and the best fluent one are marked."""
    return template("fragment.html").render(
        feature=one_line(data.feature),
        model=one_line(data.model),
        scored=f"{data.history_feature.size:,}",
        iterations=f"{numbers.iterations(data):,}",
        stopped=one_line(data.stopped),
        limit=f"{FLUENT_BELOW:g}",
        columns=list(data.columns),
        continued=bool(data.continuations),
        rows=_rows(data),
        picture=_picture(data),
    )


def _rows(data: ReportData) -> list[dict[str, object]]:
    more = numbers.format_columns(data)
    columns = zip(
        numbers.format_feature(data.frontier_feature),
        numbers.format_cross_entropy(data.frontier_cross_entropy),
        data.frontier_tokens,
        strict=True,
    )
    return [
        {
            "kind": _kind(data, row),
            "feature": feature,
            "cross_entropy": cross_entropy,
            "tokens": tokens,
            "more": [texts[row] for texts in more.values()],
            "continuation": visible("".join(data.continuations.get(row, ()))) if row in data.continuations else "",
        }
        for row, (feature, cross_entropy, tokens) in enumerate(columns)
    ]


def _kind(data: ReportData, row: int) -> str:
    if row == numbers.best_overall(data):
        return "best"
    return "fluent" if row == numbers.best_fluent(data) else ""


def _picture(data: ReportData) -> dict[str, object] | None:
    """Where everything stands in the picture; None where there is nothing to draw."""
    finite = np.flatnonzero(np.isfinite(data.frontier_feature) & np.isfinite(data.frontier_cross_entropy))
    if not len(finite):
        return None
    x, y = (np.asarray(a, np.float64)[finite] for a in (data.frontier_cross_entropy, data.frontier_feature))
    across, up = _ticks(x), _ticks(y)
    to_x = _scale(across, LEFT, WIDTH - RIGHT)
    to_y = _scale(up, HEIGHT - BOTTOM, TOP)
    points = [
        {"x": to_x(a), "y": to_y(b), "kind": _kind(data, row), "told": join_visible(data.frontier_tokens[row])}
        for row, a, b in zip(finite.tolist(), x.tolist(), y.tolist(), strict=True)
    ]
    limit = to_x(FLUENT_BELOW)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
        "across": [Tick(to_x(value), text) for value, text in zip(across, _texts(across), strict=True)],
        "up": [Tick(to_y(value), text) for value, text in zip(up, _texts(up), strict=True)],
        "line": " ".join(f"{point['x']},{point['y']}" for point in points),
        "points": points,
        "limit": limit if LEFT < limit < WIDTH - RIGHT else None,
    }


def _ticks(values: np.ndarray) -> list[float]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        # An axis needs a length.
        low, high = low - max(abs(low), 1) / 2, high + max(abs(high), 1) / 2
    return [float(tick) for tick in MaxNLocator(5).tick_values(low, high)]


def _scale(ticks: list[float], start: float, stop: float) -> Callable[[float], float]:
    """From values to places between two ends, with a decimal."""
    low, high = ticks[0], ticks[-1]
    return lambda value: round(start + (value - low) / (high - low) * (stop - start), 1)


def _texts(ticks: list[float]) -> list[str]:
    step = ticks[1] - ticks[0]
    decimals = max(0, math.ceil(-math.log10(step) - 1e-9))
    if decimals > 6 or abs(ticks[-1]) >= 1e6:
        return [f"{tick:.3g}" for tick in ticks]
    return [f"{tick:,.{decimals}f}".replace("-", "\N{MINUS SIGN}") for tick in ticks]
