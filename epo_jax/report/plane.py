"""The plane that most pictures are drawn in: feature against cross-entropy, with the perplexity above."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from epo_jax.report.drawing import SANS, add_axes, text_width
from epo_jax.report.palette import Palette

CROSS_ENTROPY = "cross-entropy (nats/token)  ← more fluent"
FIRES_MORE = "feature  fires more →"

Frame = tuple[float, float, float, float]
"""Left, bottom, width and height in inches."""
Limits = tuple[float, float]


def feature_plane(
    figure: Figure,
    x: Limits,
    y: Limits,
    frame: Frame,
    palette: Palette,
    *,
    sizes: tuple[float, float] = (8.0, 8.0),
    margin: float = 0.05,
    ylabel: str = FIRES_MORE,
) -> tuple[Axes, Frame]:
    """Axes in about `frame`, and where they are: what stands to their left may need more room or less.

    Args:
        figure: Gets the axes.
        x: Limits of the cross-entropy, nats/token.
        y: Limits of the feature.
        frame: Where they should be; its right edge, bottom and height are kept.
        palette: Colours.
        sizes: Points, of the ticks' numbers and of the labels.
        margin: Inches that stay free at the figure's left edge.
        ylabel: What stands beside the feature's axis.
    """
    axes = add_axes(figure, frame)
    wide = frame[2] > 6
    axes.set(xlim=x, ylim=y)
    dress(axes, palette, sizes[0])
    axes.xaxis.set_major_locator(MaxNLocator(8 if wide else 5))
    axes.yaxis.set_major_locator(MaxNLocator(7))
    figure_width, _ = figure.get_size_inches()
    room = float(figure_width) - frame[0] - frame[2]
    perplexity_above(axes, palette, sizes, fewest=4 if wide else 3, scale=frame[2] / (x[1] - x[0]), room=room)
    font: dict[str, Any] = {"color": palette.muted, "fontfamily": SANS, "fontsize": sizes[1]}
    axes.set_xlabel(CROSS_ENTROPY, **font)
    axes.set_ylabel(ylabel, **font)
    return axes, move_clear(figure, axes, frame, margin)


def dress(axes: Axes, palette: Palette, size: float) -> None:
    """Grid, edges and ticks as all pictures have them, the ticks' numbers of `size` points."""
    axes.set_facecolor(palette.background)
    axes.grid(color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    _quiet(axes, palette, size)


def perplexity_above(
    axes: Axes,
    palette: Palette,
    sizes: tuple[float, float],
    *,
    fewest: int,
    scale: float,
    room: float,
    label: bool = True,
) -> None:
    """An axis of perplexities above axes whose x is nats/token.

    Args:
        axes: Their limits must be set.
        palette: Colours.
        sizes: Points, of the ticks' numbers and of the label.
        fewest: Ticks, where round numbers allow it.
        scale: Inches of a nat.
        room: Inches to the right of the axes; ticks whose number would need more are left out.
        label: Whether the word stands above.
    """
    above = axes.secondary_xaxis("top")
    limits = axes.get_xlim()
    ticks, names = perplexity_ticks(limits, fewest)
    kept = _apart([(tick - limits[1]) * scale for tick in ticks], [text_width(name, sizes[0]) for name in names], room)
    above.xaxis.set_major_locator(FixedLocator([ticks[index] for index in kept]))
    above.xaxis.set_minor_locator(NullLocator())
    above.set_xticklabels([names[index] for index in kept])
    _quiet(above, palette, sizes[0])
    if label:
        above.set_xlabel("perplexity", color=palette.muted, fontfamily=SANS, fontsize=sizes[1])


def move_clear(figure: Figure, axes: Axes, frame: Frame, margin: float) -> Frame:
    """Moves the axes' left edge so that the y axis with its label begins `margin` inches from the figure's edge."""
    box = axes.yaxis.get_tightbbox()
    left = margin + (frame[0] - box.x0 / figure.dpi if box is not None else 0.5)
    frame = (left, frame[1], frame[0] + frame[2] - left, frame[3])
    width, height = (float(size) for size in figure.get_size_inches())
    axes.set_position((frame[0] / width, frame[1] / height, frame[2] / width, frame[3] / height))
    return frame


def perplexity_ticks(limits: Limits, fewest: int) -> tuple[list[float], list[str]]:
    """Round perplexities between two cross-entropies: where they are in nats/token, and how they are written."""
    low, high = (float(np.clip(limit / np.log(10), -300, 300)) for limit in limits)
    powers = 10.0 ** np.arange(np.floor(low) - 1, np.ceil(high) + 1)
    powers = powers[:: 1 + len(powers) // 12]
    values = np.array([])
    fine = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    for steps in ([1.0], [1.0, 3.0], [1.0, 2.0, 5.0], fine):
        values = np.outer(powers, steps).ravel()
        values = values[(np.log(values) >= limits[0]) & (np.log(values) <= limits[1])]
        if len(values) >= fewest:
            break
    return [float(np.log(v)) for v in values], [f"{v:,.0f}" if 10 <= v < 1e6 else f"{v:.2g}" for v in values]


def _apart(places: list[float], widths: list[float], room: float) -> list[int]:
    """Which of some texts to show, in even steps: none over another, and none that ends beyond `room`."""
    for step in range(1, len(places) + 1):
        kept = [index for index in range(0, len(places), step) if places[index] + widths[index] / 2 <= room]
        gaps = [places[b] - places[a] - (widths[a] + widths[b]) / 2 for a, b in itertools.pairwise(kept)]
        if min(gaps, default=1.0) > 0.06:
            return kept
    return []


def _quiet(axes: Any, palette: Palette, size: float) -> None:
    axes.tick_params(colors=palette.muted, labelsize=size, length=3, labelfontfamily=SANS)
    for spine in axes.spines.values():
        spine.set_color(palette.grid)
