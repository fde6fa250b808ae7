"""How the frontier of a run grows from iteration to iteration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

from epo_jax.report.data import format_feature
from epo_jax.report.line import Line, limits_of
from epo_jax.report.margin import Level, label_levels, margin_for
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.sheet import COLUMN, Key, new_sheet

# The latest line is solid with round marks, those before it are ever more broken.
_STYLES: tuple[tuple[Any, str], ...] = (
    ("solid", "o"),
    ((0, (5, 1.5)), "^"),
    ((0, (4, 1.5, 1, 1.5)), "D"),
    ((0, (1, 1.2)), "s"),
)


def evolution_figure(lines: Sequence[Line], title: str, *, palette: Palette = LIGHT, width: float = COLUMN) -> Figure:
    """The frontiers after some iterations; each one's maximum stands at the right.

    Args:
        lines: A frontier for each iteration, the earliest first.
        title: Any characters.
        palette: Colours.
        width: Inches.
    """
    styles = [_style(place, len(lines), palette) for place in range(len(lines))]
    texts = format_feature(np.array([line.largest() for line in lines]))
    levels = [
        Level(line.largest(), text, palette.ink, line is lines[-1])
        for line, text in zip(lines, texts, strict=True)
        if len(line.points)
    ]
    keys = [Key(line.name, style) for line, style in zip(lines, styles, strict=True)]
    x, y = limits_of(lines)
    sheet = new_sheet(title, "", keys, x, y, palette, width=width, right=margin_for(levels))
    for line, style in zip(lines, styles, strict=True):
        points = line.points
        sheet.axes.plot(*points.T, **style, zorder=3)
        if len(points):
            # Later frontiers are above, so nothing lies between a frontier's end and its name.
            end = [points[-1], (x[1], points[-1, 1])]
            sheet.axes.plot(*np.array(end).T, color=style["color"], linewidth=0.6, zorder=2)
    label_levels(sheet, levels, start=0.0)
    return sheet.figure


def _style(place: int, count: int, palette: Palette) -> dict[str, Any]:
    ramp = LinearSegmentedColormap.from_list("iterations", [palette.ramp[1], palette.dream])
    dashes, marker = _STYLES[min(count - 1 - place, len(_STYLES) - 1)]
    colour = to_hex(ramp(1.0 if count == 1 else place / (count - 1)))
    return {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 3.2, "linewidth": 1.2}
