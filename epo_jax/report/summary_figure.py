"""Dreams against dataset examples of many features at a glance: for each the best of both, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from epo_jax.report.drawing import add_axes, shorten, text_width, write
from epo_jax.report.line import padded
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.plane import dress
from epo_jax.report.sheet import PAGE, SIZE, Key, draw_keys, key_height, key_rows, write_titles

_ROW = 0.165  # inches


@dataclass(frozen=True)
class Bests:
    """The best dream and the best dataset example of a feature, for each way of comparing; NaN where there is none."""

    name: str
    dream: tuple[float, ...]
    dataset: tuple[float, ...]


def summary_figure(
    rows: Sequence[Bests], ways: Sequence[str], title: str, subtitle: str = "", *, palette: Palette = LIGHT
) -> Figure:
    """A row for each feature and a panel for each way of comparing, a line from the dataset's best to the dream's.

    The scale is linear to 1 and logarithmic beyond, because features differ in size. Above each panel stands in how
    many features the dream is higher; where there is no dream of the kind, it is not.

    Args:
        rows: In the order in which they are read, from above.
        ways: What each panel compares, any characters.
        title: Any characters.
        subtitle: Likewise.
        palette: Colours.
    """
    keys = [
        Key("best dream", {"color": palette.dream, "marker": "o", "markersize": 4.5, "linestyle": "none"}),
        Key("best dataset example", _hollow(palette)),
        Key("the dream is higher", {"color": palette.dream, "linewidth": 1.4}),
        Key(
            "the dataset is higher, or there is no dream",
            {"color": palette.dataset, "linewidth": 1.4, "linestyle": (0, (1.5, 1))},
        ),
    ]
    set_keys = key_rows(keys, PAGE - 0.1)
    names = [shorten(row.name, 1.5, SIZE) for row in rows]
    left = 0.15 + max((text_width(name, SIZE) for name in names), default=0.3)
    bottom, high = key_height(set_keys) + 0.42, max(len(rows), 1) * _ROW + 0.08
    top = 0.6 + (0.17 if subtitle else 0.0)
    figure = Figure(figsize=(PAGE, bottom + high + top), facecolor=palette.background)
    FigureCanvasAgg(figure)
    wide = (PAGE - left - 0.08 - 0.14 * (len(ways) - 1)) / max(len(ways), 1)
    limits, ticks = _scale([value for row in rows for value in (*row.dream, *row.dataset)])
    for place, way in enumerate(ways):
        start = left + place * (wide + 0.14)
        axes = add_axes(figure, (start, bottom, wide, high))
        dress(axes, palette, SIZE)
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set(xlim=limits, ylim=(len(rows) - 0.5, -0.5))
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
        axes.yaxis.set_major_locator(FixedLocator(range(len(rows))))
        axes.tick_params(axis="y", labelleft=False, length=0)
        pairs = [(row.dream[place], row.dataset[place]) for row in rows]
        _rows(axes, pairs, keys)
        above = bottom + high + 0.05
        write(
            figure,
            start,
            above + 0.15,
            shorten(way, wide, SIZE, weight="bold"),
            size=SIZE,
            color=palette.ink,
            fontweight="bold",
        )
        higher = sum(dream > dataset for dream, dataset in pairs)
        write(figure, start, above, f"dream higher in {higher} of {len(rows)}", size=SIZE, color=palette.muted)
    for number, name in enumerate(names):
        y = bottom + high * (1 - (number + 0.5) / max(len(rows), 1))
        write(figure, left - 0.06, y, name, size=SIZE, color=palette.ink, ha="right", va="center_baseline")
    write(
        figure,
        left + (PAGE - left) / 2,
        bottom - 0.38,
        "feature  fires more →",
        size=SIZE,
        color=palette.muted,
        ha="center",
    )
    write_titles(figure, title, subtitle, palette)
    draw_keys(figure, set_keys, key_height(set_keys), palette)
    return figure


def _rows(axes: Axes, pairs: Sequence[tuple[float, float]], keys: Sequence[Key]) -> None:
    dream_style, dataset_style, won, lost = (key.style for key in keys)
    for y, (dream, dataset) in enumerate(pairs):
        if math.isfinite(dream) and math.isfinite(dataset):
            axes.plot([dataset, dream], [y, y], **(won if dream > dataset else lost), zorder=3)
        axes.plot([dataset], [y], **dataset_style, zorder=4)
        axes.plot([dream], [y], **dream_style, zorder=5)


def _hollow(palette: Palette) -> dict[str, Any]:
    diamond = {"color": palette.dataset, "marker": "D", "markersize": 4.5, "linestyle": "none"}
    return {**diamond, "markerfacecolor": palette.background, "markeredgewidth": 1.1}


def _scale(values: Sequence[float]) -> tuple[tuple[float, float], list[float]]:
    """Limits and round ticks of a scale that is linear from -1 to 1 and logarithmic beyond."""
    known = np.array([value for value in values if math.isfinite(value)])
    size = np.abs(known)
    bent = padded(np.copysign(np.where(size > 1, 1 + np.log10(np.maximum(size, 1)), size), known))
    low, high = (math.copysign(10 ** (abs(end) - 1) if abs(end) > 1 else abs(end), end) for end in bent)
    powers = [10.0**power for power in range(39)]
    ticks = [sign * power * step for sign in (-1, 1) for power in powers for step in (1, 3)]
    return (low, high), sorted(tick for tick in {0.0, *ticks} if low <= tick <= high)
