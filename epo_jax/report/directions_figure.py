"""How strongly directions of one layer are reached, and how fluently (figure 5 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from epo_jax.report.line import Line, limits_of
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.sheet import COLUMN, Key, new_sheet

_MANY = 5000
"""Marks beyond which they are drawn as pixels, in a PDF too."""


def directions_figure(
    dreams: Sequence[Line],
    examples: Sequence[Line],
    random: Line,
    title: str,
    *,
    palette: Palette = LIGHT,
    width: float = COLUMN,
) -> Figure:
    """z-scores against cross-entropy: the frontier of each vector's dream, dataset examples and random prompts.

    Args:
        dreams: A frontier for each vector.
        examples: Dataset examples of each vector.
        random: Random prompts, those of all vectors together.
        title: Any characters.
        palette: Colours.
        width: Inches.
    """
    dot = {"linestyle": "none", "markerfacecolor": "none"}
    diamonds = {**dot, "color": palette.dataset, "marker": "D", "markersize": 2.4, "markeredgewidth": 0.6}
    crosses = {**dot, "color": palette.random, "marker": "x", "markersize": 2.4, "markeredgewidth": 0.6}
    keys = [
        Key("dreams", {"color": palette.dream, "linewidth": 0.7, "marker": "o", "markersize": 3.0, "markevery": [-1]}),
        Key("dataset examples", diamonds),
        Key("random prompts", crosses),
    ]
    x, y = limits_of([*dreams, *examples, random])
    told = f"{len(dreams):,} vectors" if len(dreams) > 1 else ""
    sheet = new_sheet(title, told, keys, x, y, palette, width=width, ylabel="z-score")
    marks = len(random.points) + sum(len(line.points) for line in examples)
    for line, style, order in (
        (random, crosses, 2),
        *((line, diamonds, 3) for line in examples),
        *((line, keys[0].style, 4) for line in dreams),
    ):
        sheet.axes.plot(*line.points.T, **style, zorder=order, rasterized=order < 4 and marks > _MANY)
    return sheet.figure
