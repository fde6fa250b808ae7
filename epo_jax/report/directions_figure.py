"""How strongly directions of one layer are reached, and how fluently (figure 5 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from epo_jax.report.line import Line, limits_of
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.sheet import COLUMN, Key, new_sheet


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
    keys = [
        Key("dreams", {"color": palette.dream}),
        Key("dataset examples", {"color": palette.dataset, "marker": "D", "markersize": 3, "linestyle": "none"}),
        Key("random prompts", {"color": palette.random, "marker": "x", "markersize": 3, "linestyle": "none"}),
    ]
    x, y = limits_of([*dreams, *examples, random])
    sheet = new_sheet(title, "", keys, x, y, palette, width=width, ylabel="z-score")
    sheet.axes.plot(*random.points.T, **keys[2].style)
    for line in examples:
        sheet.axes.plot(*line.points.T, **keys[1].style)
    for line in dreams:
        sheet.axes.plot(*line.points.T, **keys[0].style)
    return sheet.figure
