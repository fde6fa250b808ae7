"""A picture for a column or a page of a paper: a title, the axes, and below them what the marks mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from epo_jax.report.drawing import add_axes, shorten, text_width, write
from epo_jax.report.palette import Palette
from epo_jax.report.plane import FIRES_MORE, Frame, Limits, dress, feature_plane, move_clear

COLUMN, PAGE = 3.3, 6.75
"""Inches: the width of a column and of a page."""
SIZE = 8.0
"""Points of all text that is no title."""
_ROW = 0.165  # inches
_SPACE, _GAP, _EDGE = 0.04, 0.14, 0.05  # inches


@dataclass(frozen=True)
class Key:
    """What a mark means: its name, in any characters, and its style, as keywords of a matplotlib line."""

    name: str
    style: Mapping[str, Any]

    @property
    def is_line(self) -> bool:
        """Whether the mark is a line, and not only points."""
        return self.style.get("linestyle") != "none"

    @property
    def swatch(self) -> float:
        """Inches that the mark takes."""
        return 0.36 if self.is_line else 0.12


@dataclass(frozen=True)
class Sheet:
    """A picture whose axes wait to be drawn into; `frame` is where they are, `right` the inches beside them."""

    figure: Figure
    axes: Axes
    frame: Frame
    right: float


def new_sheet(
    title: str,
    subtitle: str,
    keys: Sequence[Key],
    x: Limits,
    y: Limits,
    palette: Palette,
    *,
    width: float = COLUMN,
    height: float = 2.1,
    right: float = 0.08,
    below: float = 0.0,
    ylabel: str = FIRES_MORE,
    xlabel: str | None = None,
) -> Sheet:
    """A picture with title, subtitle, axes and keys, nothing drawn in the axes yet.

    Args:
        title: Any characters; shortened where it is too wide. Empty for none.
        subtitle: Likewise.
        keys: What the marks mean, in rows below the axes.
        x: Limits of the horizontal axis.
        y: Limits of the vertical axis.
        palette: Colours.
        width: Of the picture, inches.
        height: Of the axes, inches.
        right: Inches that stay free to the right of the axes.
        below: Inches that stay free below the keys.
        ylabel: What stands beside the vertical axis.
        xlabel: What stands below the horizontal axis; None for a cross-entropy, with the perplexity above.
    """
    rows = key_rows(keys, width - 2 * _EDGE)
    bottom = below + key_height(rows) + 0.42
    top = (0.21 if title else 0.0) + (0.17 if subtitle else 0.0) + (0.08 if xlabel else 0.42)
    figure = Figure(figsize=(width, bottom + height + top), facecolor=palette.background)
    FigureCanvasAgg(figure)
    frame = (0.5, bottom, width - 0.5 - right, height)
    if xlabel is None:
        axes, frame = feature_plane(figure, x, y, frame, palette, ylabel=ylabel)
    else:
        axes = add_axes(figure, frame)
        axes.set(xlim=x, ylim=y)
        dress(axes, palette, SIZE)
        axes.set_xlabel(xlabel, color=palette.muted, fontsize=SIZE)
        axes.set_ylabel(ylabel, color=palette.muted, fontsize=SIZE)
        frame = move_clear(figure, axes, frame, 0.05)
    write_titles(figure, title, subtitle, palette)
    draw_keys(figure, rows, below + key_height(rows), palette)
    return Sheet(figure, axes, frame, right)


def write_titles(figure: Figure, title: str, subtitle: str, palette: Palette) -> None:
    """Title and subtitle in the upper left corner, shortened where they are too wide."""
    width, height = (float(size) for size in figure.get_size_inches())
    room = width - 2 * _EDGE
    y = height
    if title:
        y -= 0.17
        shown = shorten(title, room, 9.0, weight="bold")
        write(figure, _EDGE, y, shown, size=9.0, color=palette.ink, fontweight="bold")
    if subtitle:
        write(figure, _EDGE, y - 0.165, shorten(subtitle, room, SIZE), size=SIZE, color=palette.muted)


def key_rows(keys: Sequence[Key], width: float) -> list[list[tuple[Key, str, float]]]:
    """The keys set in rows of `width` inches: each with the text that fits, and where it begins."""
    rows: list[list[tuple[Key, str, float]]] = []
    x = width
    for key in keys:
        text = shorten(key.name, width - key.swatch - _SPACE, SIZE)
        needed = key.swatch + _SPACE + text_width(text, SIZE)
        if x + needed > width or not rows:
            rows.append([])
            x = 0.0
        rows[-1].append((key, text, x))
        x += needed + _GAP
    return rows


def key_height(rows: Sequence[Sequence[tuple[Key, str, float]]]) -> float:
    """The height in inches of keys in these rows."""
    return _EDGE + len(rows) * _ROW


def draw_keys(figure: Figure, rows: Sequence[Sequence[tuple[Key, str, float]]], top: float, palette: Palette) -> None:
    """The keys in rows, the first `top` inches above the figure's lower edge."""
    for number, row in enumerate(rows):
        y = top - (number + 0.5) * _ROW
        for key, text, start in row:
            left, right = _EDGE + start, _EDGE + start + key.swatch
            x = [left + 0.03, right - 0.03] if key.is_line else [(left + right) / 2]
            draw_line(figure, x, [y] * len(x), **key.style)
            write(figure, right + _SPACE, y - 0.04, text, size=SIZE, color=palette.ink)


def draw_line(figure: Figure, x: Sequence[float], y: Sequence[float], **style: Any) -> None:
    """A line through points in inches from the figure's lower left corner."""
    line = Line2D(x, y, **style)
    line.set_transform(figure.dpi_scale_trans)
    figure.add_artist(line)
