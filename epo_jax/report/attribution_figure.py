"""Which tokens matter, as a picture: a strip of shaded tokens for each prompt, with the numbers below them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from epo_jax.report.attribution_data import PromptDrops
from epo_jax.report.attribution_html import alternatives
from epo_jax.report.attribution_marks import TokenMarks, formatted, marks
from epo_jax.report.data import format_cross_entropy
from epo_jax.report.drawing import MONO, POINTS, SANS, add_axes, fit_text, shorten
from epo_jax.report.labels import break_lines
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.tokens import visible

_TEXT_SIZE = 9.5  # points
_ADVANCE = 0.602 / POINTS  # inches for each point of size; the width of every DejaVu Sans Mono character
_ROW = 0.22 / _TEXT_SIZE  # inches for each point of size
_SMALL = 8.0  # points, of the numbers below tokens
_TOP = 6.1  # in rows, of title and keys
_NARROW = 8.0  # inches; in a narrower picture the keys stand in two rows
_HEADER, _BAR, _BOX, _NUMBERS, _GAP = 1.25, 0.8, 1.1, 1.9, 0.4  # in rows
_MOST_LINES = 40
MOST_INCHES = 80.0
"""Height that prompts may take; those beyond are left out, and the picture says how many."""
# A share of the darkest shade, under which text is easy to read.
_STRONGEST = 0.62

Font = dict[str, Any]


@dataclass(frozen=True)
class _Strip:
    """A prompt laid out: its tokens' texts, marks and widths in characters, and its lines.

    A line is a list of (token, start column), with -1 in the place of tokens that are left out.
    """

    prompt: PromptDrops
    texts: tuple[str, ...]
    marks: tuple[TokenMarks, ...]
    widths: tuple[int, ...]
    lines: list[list[tuple[int, int]]]

    @property
    def rows(self) -> float:
        """Its height."""
        return _HEADER + len(self.lines) * (_BAR + _BOX + _NUMBERS + _GAP)


def attribution_figure(
    prompts: Sequence[PromptDrops],
    feature: str,
    model: str,
    numbers: Sequence[int] | None = None,
    *,
    palette: Palette = LIGHT,
    width: float = 10.5,
    size: float = _TEXT_SIZE,
) -> Figure:
    """A strip for each prompt.

    A token's shade is how much the feature falls with the worst replacement, the bar above it how much it falls even
    with the best, both as shares of the prompt's largest fall; the numbers below are the changes with the two.

    Args:
        prompts: What to draw, from above.
        feature: The feature's string.
        model: The model's name.
        numbers: A number that stands before each prompt, such as its place on the frontier.
        palette: Colours.
        width: Inches.
        size: Points, of the tokens.
    """
    advance, row = _ADVANCE * size, _ROW * size
    margin = 0.35 if width >= _NARROW else 0.05
    characters = max(int((width - 2 * margin) / advance), 24)
    strips = _fitting((_laid_out(prompt, characters) for prompt in prompts), row)
    top = _TOP + (0.0 if width >= _NARROW else 1.2)
    high = (top + sum(strip.rows for strip in strips)) * row
    figure = Figure(figsize=(width, high + 0.2), facecolor=palette.background)
    FigureCanvasAgg(figure)
    axes = add_axes(figure, (margin, 0.15, characters * advance, high))
    axes.set(xlim=(0, characters), ylim=(high / row, 0))
    axes.axis("off")
    _titles(axes, prompts, len(strips), feature, model, characters, size, palette)
    y = top
    for index, strip in enumerate(strips):
        _draw(axes, strip, y, "" if numbers is None else f"#{numbers[index]}   ", size, palette)
        y += strip.rows
    return figure


def attribution_png(*arguments: Any, dpi: float = 150, **options: Any) -> bytes:
    """`attribution_figure(*arguments, **options)` as the bytes of a PNG."""
    buffer = io.BytesIO()
    # No software version inside: the same data gives the same bytes.
    attribution_figure(*arguments, **options).savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def write_attribution_png(path: str | os.PathLike[str], *arguments: Any, **options: Any) -> None:
    """Writes `attribution_png(*arguments, **options)` to a file. Raises OSError where it cannot be written."""
    data = attribution_png(*arguments, **options)
    with open(path, "wb") as file:
        file.write(data)


def _laid_out(prompt: PromptDrops, characters: int) -> _Strip:
    shown = marks(prompt)
    texts = tuple(fit_text(visible(token.text), MONO, characters - 2) for token in prompt.tokens)
    widths = tuple(
        max(len(text), len(mark.to_worst), len(mark.to_best)) + 1 for text, mark in zip(texts, shown, strict=True)
    )
    return _Strip(prompt, texts, shown, widths, break_lines(widths, characters, _MOST_LINES))


def _fitting(strips: Iterable[_Strip], row: float) -> list[_Strip]:
    fitting: list[_Strip] = []
    rows = 0.0
    for strip in strips:
        rows += strip.rows
        if fitting and rows * row > MOST_INCHES:
            break
        fitting.append(strip)
    return fitting


def _titles(
    axes: Axes,
    prompts: Sequence[PromptDrops],
    drawn: int,
    feature: str,
    model: str,
    characters: int,
    size: float,
    palette: Palette,
) -> None:
    room = characters * _ADVANCE * size
    small = max(0.9 * size, _SMALL)
    large = 1.35 * size
    sans: Font = {"va": "center", "parse_math": False, "fontfamily": SANS}
    title = f"What {fit_text(feature, SANS, 56)} needs, in {fit_text(model, SANS, 36)}"
    title = shorten(title, room, large, weight="bold")
    axes.text(0, 0.9, title, color=palette.ink, fontsize=large, fontweight="bold", **sans)
    tried = f"each token replaced by {alternatives(prompts)} others, one at a time"
    if drawn < len(prompts):
        tried += f"; the first {drawn} of {len(prompts)} prompts"
    axes.text(0, 2.3, tried, color=palette.muted, fontsize=small, **sans)
    shade = _shades(palette)
    for step in range(24):
        axes.add_patch(Rectangle((step / 4, 3.4), 0.26, 0.7, facecolor=shade(step / 23), edgecolor="none"))
    axes.text(7, 3.75, "the worst one: how much the feature falls", color=palette.muted, fontsize=small, **sans)
    x, y = (0.0, 4.6) if room < _NARROW else (characters / 2, 3.4)
    axes.add_patch(Rectangle((x, y), 6, 0.7, facecolor=palette.fluent, edgecolor="none"))
    text = "the best one: how much it falls all the same (no bar: not at all)"
    axes.text(x + 7, y + 0.35, text, color=palette.muted, fontsize=small, **sans)


def _draw(axes: Axes, strip: _Strip, y: float, number: str, size: float, palette: Palette) -> None:
    prompt = strip.prompt
    font: Font = {"va": "center", "parse_math": False, "fontfamily": MONO, "fontsize": size}
    small: Font = {**font, "fontsize": _SMALL}
    facts = f"{number}feature {formatted([prompt.feature])[0]}"
    if prompt.cross_entropy is not None:
        facts += f"   {format_cross_entropy(np.array([prompt.cross_entropy]))[0]} nats/token"
    axes.text(0, y + 0.5, facts, color=palette.ink, **{**font, "fontweight": "bold"})
    shade = _shades(palette)
    y += _HEADER
    for line in strip.lines:
        box, below = y + _BAR, y + _BAR + _BOX
        for item, start in line:
            if item < 0:
                axes.text(start, box + _BOX / 2, " … ", color=palette.muted, **font)
                continue
            text, mark, wide = strip.texts[item], strip.marks[item], strip.widths[item] - 0.6
            face = to_hex(shade(mark.shade))
            axes.add_patch(Rectangle((start, box), wide, _BOX, facecolor=face, edgecolor=palette.muted, linewidth=0.4))
            high = (_BAR - 0.1) * mark.bar
            axes.add_patch(Rectangle((start, box - high), wide, high, facecolor=palette.fluent, edgecolor="none"))
            axes.text(start + 0.2, box + _BOX / 2, text, color=palette.ink, **font)
            axes.text(start + 0.2, below + 0.5, mark.to_worst, color=palette.overall, **small)
            axes.text(start + 0.2, below + 1.3, mark.to_best, color=palette.fluent, **small)
        y += _BAR + _BOX + _NUMBERS + _GAP


def _shades(palette: Palette) -> LinearSegmentedColormap:
    whole = LinearSegmentedColormap.from_list("all", [palette.tints[1], palette.overall])
    return LinearSegmentedColormap.from_list("shades", [whole(0.0), whole(_STRONGEST)])
