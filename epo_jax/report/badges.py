"""Numbers and letters in round badges beside the points that they name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from epo_jax.report.drawing import POINTS, SANS
from epo_jax.report.labels import place
from epo_jax.report.palette import Palette
from epo_jax.report.plane import Frame


def draw_badges(
    axes: Axes,
    points: Float[np.ndarray, "n 2"],
    labelled: Sequence[int],
    texts: Sequence[str],
    colours: Sequence[str],
    frame: Frame,
    palette: Palette,
    *,
    size: float = 7.5,
    pad: float = 0.28,
    line: Float[np.ndarray, "m 2"] | None = None,
) -> None:
    """Draws a badge for some of the points, where it hides nothing.

    Args:
        axes: With limits set.
        points: All that is drawn, in the axes' units.
        labelled: Which of them get a badge.
        texts: What each badge says, a letter or two.
        colours: Of each badge.
        frame: Where the axes are.
        palette: Colours.
        size: Points, of the text.
        pad: Between the text and the badge's edge, as a share of the size.
        line: What is drawn as a line; None for one through all points.
    """
    inches = np.array(frame[2:]) * POINTS
    low = np.array([axes.get_xlim()[0], axes.get_ylim()[0]])
    span = np.array([axes.get_xlim()[1], axes.get_ylim()[1]]) - low
    through = None if line is None else (line - low) / span * inches
    where = (points - low) / span * inches
    centres = place(where, labelled, (float(inches[0]), float(inches[1])), radius=size * (0.72 + pad), line=through)
    for point, centre, text, colour in zip(points[list(labelled)], centres, texts, colours, strict=True):
        axes.annotate(
            text,
            xy=(point[0], point[1]),
            xytext=tuple(centre / inches * span + low),
            ha="center",
            va="center_baseline",
            color=palette.badge_ink,
            fontsize=size,
            fontfamily=SANS,
            fontweight="bold",
            bbox={"boxstyle": f"circle,pad={pad}", "facecolor": colour, "edgecolor": "none"},
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2},
            zorder=6,
        )
