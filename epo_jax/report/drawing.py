"""What the pictures share: axes and text in inches, text that the fonts can draw, the colours of the best points."""

from __future__ import annotations

from functools import cache, partial
from typing import Any
from unicodedata import bidirectional, category

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from epo_jax.report import data as numbers
from epo_jax.report.data import ReportData
from epo_jax.report.palette import Palette
from epo_jax.report.tokens import one_line

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"
POINTS = 72.0
"""Typographic points in an inch."""


def add_axes(figure: Figure, inches: tuple[float, float, float, float]) -> Axes:
    """New axes at (left, bottom, width, height) in inches."""
    width, height = (float(size) for size in figure.get_size_inches())
    left, bottom, wide, high = inches
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def fit_text(text: str, family: str, limit: int) -> str:
    """The text on one line of at most `limit` characters, those that the font family cannot draw as escapes.

    The middle of a longer one becomes an ellipsis.
    """
    shown = one_line(text, partial(_drawable, family=family))
    return shown if len(shown) <= limit else f"{shown[: limit * 2 // 3]}…{shown[len(shown) - limit // 3 + 1 :]}"


def text_width(text: str, size: float, *, family: str = SANS, weight: str = "normal") -> float:
    """The width in inches of a line of text, `size` in points; nothing in it counts as mathematics."""
    font = FontProperties(family=family, size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / POINTS


def shorten(text: str, inches: float, size: float, *, family: str = SANS, weight: str = "normal") -> str:
    """The text as `fit_text` gives it, its middle an ellipsis where it is wider than `inches`."""
    whole = fit_text(text, family, 400)
    for limit in range(len(whole), 3, -1):
        shown = fit_text(whole, family, limit)
        if text_width(shown, size, family=family, weight=weight) <= inches:
            return shown
    return fit_text(whole, family, 3)


def write(figure: Figure, x: float, y: float, text: str, *, size: float, color: str, **options: Any) -> Text:
    """Text at (x, y) in inches from the figure's lower left corner; nothing in it counts as mathematics."""
    font: dict[str, Any] = {"fontfamily": SANS, "va": "baseline", "parse_math": False, **options}
    written = figure.text(x, y, text, fontsize=size, color=color, **font)
    written.set_transform(figure.dpi_scale_trans)
    return written


def point_colour(index: int, data: ReportData, palette: Palette) -> str:
    """The colour of a frontier prompt: one each for the best overall and the best fluent, the line's for the others."""
    if index == numbers.best_overall(data):
        return palette.overall
    return palette.fluent if index == numbers.best_fluent(data) else palette.line


@cache
def _glyphs(family: str) -> frozenset[int]:
    font = font_manager.get_font(font_manager.findfont(family))
    return frozenset(int(code) for code in font.get_charmap())


def _drawable(character: str, family: str) -> bool:
    # Right-to-left letters and combining marks would leave the cell that the layout reserves for them.
    simple = bidirectional(character) not in {"R", "AL"} and not category(character).startswith("M")
    return simple and ord(character) in _glyphs(family)
