"""How the frontier of a run grows from iteration to iteration."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from epo_jax.report.line import Line, limits_of
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.sheet import COLUMN, new_sheet

_STYLES = ((0, (1, 1.5)), (0, (3, 1.5, 1, 1.5)), (0, (5, 2)), "solid")
_MARKERS = ("s", "D", "^", "o")


def evolution_figure(lines: Sequence[Line], title: str, *, palette: Palette = LIGHT, width: float = COLUMN) -> Figure:
    """The frontiers after some iterations, each with its maximum at the right.

    Args:
        lines: A frontier for each iteration, the earliest first.
        title: Any characters.
        palette: Colours.
        width: Inches.
    """
    x, y = limits_of(lines)
    sheet = new_sheet(title, "", [], x, y, palette, width=width, right=0.95)
    for line in lines:
        sheet.axes.plot(*line.points.T)
    return sheet.figure
