"""Labels in the right margin of a picture, at the heights that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epo_jax.report.drawing import shorten, text_width, write
from epo_jax.report.labels import spread
from epo_jax.report.sheet import SIZE, Sheet, draw_line

LINE = 0.135
"""Inches from one label to the next at least."""


@dataclass(frozen=True)
class Level:
    """A height with a name: the feature's value, the label in any characters, its colour, and whether it is bold."""

    value: float
    text: str
    colour: str
    bold: bool = False


def label_levels(sheet: Sheet, levels: Sequence[Level], *, start: float = 0.05) -> None:
    """Writes each level's label beside its height, or as near as others leave room, with a line to it.

    Args:
        sheet: Its axes' limits must be set.
        levels: In any order.
        start: Inches from the axes at which the lines begin.
    """
    left, bottom, width, height = sheet.frame
    low, high = sheet.axes.get_ylim()
    inches = [bottom + (level.value - low) / (high - low) * height for level in levels]
    places = spread(inches, LINE, bottom + 0.03, bottom + height - 0.03)
    for level, at, y in zip(levels, inches, places, strict=True):
        x = left + width + start
        line: dict[str, Any] = {"color": level.colour, "linewidth": 0.7, "clip_on": False}
        draw_line(sheet.figure, [x, x + 0.04, x + 0.11], [at, at, y], **line)
        weight = "bold" if level.bold else "normal"
        room = sheet.right - start - 0.14
        text = shorten(level.text, room, SIZE, weight=weight)
        write(sheet.figure, x + 0.135, y - 0.04, text, size=SIZE, color=level.colour, fontweight=weight)


def margin_for(levels: Sequence[Level], *, start: float = 0.05, most: float = 1.3) -> float:
    """Inches that the labels need to the right of the axes, `most` at most."""
    widths = [text_width(level.text, SIZE, weight="bold" if level.bold else "normal") for level in levels]
    return min(start + 0.16 + max(widths, default=0.0), most)
