"""Prompts in words below a picture for papers: the badge, what the prompt is, and its tokens in tinted boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from epo_jax.report.drawing import MONO, POINTS, fit_text, shorten, write
from epo_jax.report.labels import break_lines
from epo_jax.report.palette import Palette
from epo_jax.report.sheet import SIZE
from epo_jax.report.tokens import visible

_ADVANCE = 0.602 * SIZE / POINTS  # inches; the width of every DejaVu Sans Mono character
_ROW, _GAP, _INDENT, _EDGE = 0.155, 0.05, 0.2, 0.05  # inches
_MOST_LINES = 3


@dataclass(frozen=True)
class Listed:
    """A prompt of the list: its badge and the badge's colour, what it is, and the text of each token."""

    badge: str
    colour: str
    what: str
    tokens: tuple[str, ...]


def list_height(prompts: Sequence[Listed], width: float) -> float:
    """The height in inches of a list of these prompts in a picture `width` inches wide."""
    return sum((1 + len(_lines(prompt, width)[1])) * _ROW + _GAP for prompt in prompts)


def draw_list(figure: Figure, prompts: Sequence[Listed], top: float, palette: Palette) -> None:
    """Draws the list, its upper edge `top` inches above the figure's lower edge."""
    width = float(figure.get_size_inches()[0])
    left = _EDGE + _INDENT
    y = top
    for prompt in prompts:
        y -= _ROW
        circle = Circle((_EDGE + 0.075, y + 0.04), 0.07, facecolor=prompt.colour, edgecolor="none")
        circle.set_transform(figure.dpi_scale_trans)
        figure.add_artist(circle)
        badge = {"ha": "center", "va": "center_baseline", "fontweight": "bold"}
        write(figure, _EDGE + 0.075, y + 0.042, prompt.badge, size=SIZE, color=palette.badge_ink, **badge)
        write(figure, left, y, shorten(prompt.what, width - left - _EDGE, SIZE), size=SIZE, color=palette.muted)
        texts, lines = _lines(prompt, width)
        for line in lines:
            y -= _ROW
            for item, start in line:
                x = left + start * _ADVANCE
                text = texts[item] if item >= 0 else " … "
                if item >= 0:
                    wide, high = len(text) * _ADVANCE - 0.01, _ROW - 0.015
                    box = Rectangle((x + 0.005, y - 0.035), wide, high, facecolor=palette.tints[item % 2])
                    box.set_transform(figure.dpi_scale_trans)
                    figure.add_artist(box)
                write(figure, x, y, text, size=SIZE, color=palette.ink, fontfamily=MONO, zorder=5)
        y -= _GAP


def _lines(prompt: Listed, width: float) -> tuple[list[str], list[list[tuple[int, int]]]]:
    room = int((width - 2 * _EDGE - _INDENT) / _ADVANCE)
    texts = [fit_text(visible(token), MONO, room) for token in prompt.tokens]
    return texts, break_lines([len(text) for text in texts], room, _MOST_LINES)
