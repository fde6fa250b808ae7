"""The list under the picture: the numbered prompts in a grid of characters, one token in each tinted box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from epo_jax.report import data as numbers
from epo_jax.report.data import FLUENT_BELOW, ReportData
from epo_jax.report.drawing import MONO, POINTS, add_axes, fit_text, point_colour
from epo_jax.report.labels import break_lines
from epo_jax.report.palette import Palette
from epo_jax.report.tokens import visible

_TEXT_SIZE = 9.5
_ADVANCE = 0.602 * _TEXT_SIZE / POINTS  # inches; the width of every DejaVu Sans Mono character
_ROW = 0.245  # inches
_COLUMNS = (3, 12, 24, 36, 39)  # right edges of number, feature, cross-entropy, perplexity; left edge of the prompt
_MOST_LINES = 3

Line = list[tuple[str, int, int]]
"""A line of a prompt: (text, start column, index of the token, or -1 for what is left out)."""


def columns(width: float) -> int:
    """How many characters fit beside one another in a picture `width` inches wide."""
    return max(int((width - 0.75) / _ADVANCE), _COLUMNS[-1] + 12)


def prompt_lines(tokens: Sequence[str], characters: int) -> list[Line]:
    """A prompt broken at token boundaries into at most three lines, for a panel `characters` wide."""
    room = characters - _COLUMNS[-1]
    texts = [fit_text(visible(token), MONO, room) for token in tokens]
    lines = break_lines([len(text) for text in texts], room, _MOST_LINES)
    return [[(" … " if item < 0 else texts[item], start, item) for item, start in line] for line in lines]


def panel_height(listing: Sequence[list[Line]]) -> float:
    """The height in inches of a panel of these prompts."""
    return (sum(map(len, listing)) + 1.6) * _ROW


def draw_panel(
    figure: Figure,
    data: ReportData,
    rows: Sequence[int],
    listing: Sequence[list[Line]],
    characters: int,
    palette: Palette,
) -> None:
    """Lists the prompts of the frontier's `rows`, each with its number, feature, cross-entropy and perplexity."""
    high = sum(map(len, listing)) + 1.6
    axes = add_axes(figure, (0.45, 0.2, characters * _ADVANCE, high * _ROW))
    axes.set(xlim=(0, characters), ylim=(high, 0))
    axes.axis("off")
    font: dict[str, Any] = {"fontsize": _TEXT_SIZE, "va": "center", "parse_math": False, "fontfamily": MONO}
    heads = zip(_COLUMNS[1:], ("feature", "nats/token", "perplexity"), strict=False)
    for column, name in heads:
        axes.text(column, 0.5, name, color=palette.muted, ha="right", **font)
    note = f"prompt, one box per token  (orange: best overall, green: best below {FLUENT_BELOW:g} nats)"
    axes.text(_COLUMNS[-1], 0.5, note[: characters - _COLUMNS[-1]], color=palette.muted, **font)
    values = (
        numbers.format_feature(data.frontier_feature),
        numbers.format_cross_entropy(data.frontier_cross_entropy),
        numbers.format_perplexity(data.frontier_cross_entropy),
    )
    y = 1.6
    for row, lines in zip(rows, listing, strict=True):
        colour = point_colour(row, data, palette)
        weight = "bold" if colour != palette.line else "normal"
        axes.text(_COLUMNS[0], y, str(row + 1), color=colour, ha="right", **{**font, "fontweight": "bold"})
        for column, value in zip(_COLUMNS[1:], values, strict=False):
            axes.text(column, y, value[row], color=palette.ink, ha="right", fontweight=weight, **font)
        for line in lines:
            for text, start, item in line:
                left = _COLUMNS[-1] + start
                tint = palette.tints[item % 2] if item >= 0 else "none"
                box = FancyBboxPatch((left + 0.08, y - 0.42), len(text) - 0.16, 0.84, boxstyle="square,pad=0")
                box.set(facecolor=tint, edgecolor="none")
                axes.add_patch(box)
                axes.text(left, y, text, color=palette.ink, ha="left", **font)
            y += 1
