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

from epo_jax.report.drawing import SANS, add_axes, fit_text, shorten, text_width, write
from epo_jax.report.line import padded
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.plane import FIRES_MORE, Limits, dress
from epo_jax.report.sheet import PAGE, SIZE, Key, draw_keys, key_height, key_rows, write_titles

_ROW, _HEAD, _ACROSS = 0.165, 0.145, 0.14  # inches: of a feature, of a line of a head, between panels


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
    keys = key_rows(list(_keys(palette).values()), PAGE - 0.1)
    names = [shorten(row.name, 1.5, SIZE) for row in rows]
    left = 0.15 + max((text_width(name, SIZE) for name in names), default=0.3)
    wide = (PAGE - left - 0.08 - _ACROSS * (len(ways) - 1)) / max(len(ways), 1)
    heads = [_wrapped(way, wide) for way in ways]
    bottom, high = key_height(keys) + 0.42, max(len(rows), 1) * _ROW + 0.08
    top = 0.46 + _HEAD * max(map(len, heads), default=1) + (0.17 if subtitle else 0.0)
    figure = Figure(figsize=(PAGE, bottom + high + top), facecolor=palette.background)
    FigureCanvasAgg(figure)
    scale = _scale([value for row in rows for value in (*row.dream, *row.dataset)])
    for place, head in enumerate(heads):
        start = left + place * (wide + _ACROSS)
        pairs = [(row.dream[place], row.dataset[place]) for row in rows]
        _panel(add_axes(figure, (start, bottom, wide, high)), pairs, scale, palette)
        above = bottom + high + 0.05
        for number, text in enumerate(reversed(head), start=1):
            write(figure, start, above + _HEAD * number, text, size=SIZE, color=palette.ink, fontweight="bold")
        higher = sum(dream > dataset for dream, dataset in pairs)
        write(figure, start, above, f"dream higher in {higher} of {len(rows)}", size=SIZE, color=palette.muted)
    for number, name in enumerate(names):
        y = bottom + high * (1 - (number + 0.5) / len(names))
        write(figure, left - 0.06, y, name, size=SIZE, color=palette.ink, ha="right", va="center_baseline")
    write(figure, (left + PAGE) / 2, bottom - 0.38, FIRES_MORE, size=SIZE, color=palette.muted, ha="center")
    write_titles(figure, title, subtitle, palette)
    draw_keys(figure, keys, key_height(keys), palette)
    return figure


def _panel(
    axes: Axes, pairs: Sequence[tuple[float, float]], scale: tuple[Limits, list[float]], palette: Palette
) -> None:
    limits, ticks = scale
    dress(axes, palette, SIZE)
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set(xlim=limits, ylim=(max(len(pairs), 1) - 0.5, -0.5))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
    axes.yaxis.set_major_locator(FixedLocator(range(len(pairs))))
    axes.tick_params(axis="y", labelleft=False, length=0)
    style = {name: key.style for name, key in _keys(palette).items()}
    for y, (dream, dataset) in enumerate(pairs):
        if math.isfinite(dream) and math.isfinite(dataset):
            axes.plot([dataset, dream], [y, y], **style["won" if dream > dataset else "lost"], zorder=3)
        elif math.isfinite(dataset):
            _no_dream(axes, dataset, y, palette)
        axes.plot([dataset], [y], **style["dataset"], zorder=4)
        axes.plot([dream], [y], **style["dream"], zorder=5)


def _no_dream(axes: Axes, x: float, y: float, palette: Palette) -> None:
    share = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0]
    axes.annotate(
        "no dream",
        xy=(x, y),
        xytext=(6 if share < 0.7 else -6, 0),
        textcoords="offset points",
        ha="left" if share < 0.7 else "right",
        va="center_baseline",
        color=palette.muted,
        fontsize=SIZE,
        fontfamily=SANS,
    )


def _keys(palette: Palette) -> dict[str, Key]:
    point: dict[str, Any] = {"markersize": 4.5, "linestyle": "none"}
    hollow = {"marker": "D", "color": palette.dataset, "markerfacecolor": palette.background, "markeredgewidth": 1.1}
    dotted = {"color": palette.dataset, "linewidth": 1.6, "linestyle": (0, (1.2, 0.8))}
    return {
        "dream": Key("best dream", {**point, "color": palette.dream, "marker": "o"}),
        "dataset": Key("best dataset example", {**point, **hollow}),
        "won": Key("the dream is higher", {"color": palette.dream, "linewidth": 1.6}),
        "lost": Key("the dataset is higher", dotted),
    }


def _wrapped(text: str, inches: float) -> list[str]:
    """The text in at most two bold lines, broken between words."""
    words = text.split(" ")
    for count in range(len(words), 0, -1):
        first = " ".join(words[:count])
        if text_width(fit_text(first, SANS, 400), SIZE, weight="bold") <= inches:
            break
    lines = [first, " ".join(words[count:])]
    return [shorten(line, inches, SIZE, weight="bold") for line in lines if line]


def _scale(values: Sequence[float]) -> tuple[Limits, list[float]]:
    """Limits and round ticks of a scale that is linear from -1 to 1 and logarithmic beyond."""
    known = np.array([value for value in values if math.isfinite(value)])
    size = np.abs(known)
    bent = padded(np.copysign(np.where(size > 1, 1 + np.log10(np.maximum(size, 1)), size), known))
    low, high = (math.copysign(10 ** (abs(end) - 1) if abs(end) > 1 else abs(end), end) for end in bent)
    powers = [10.0**power for power in range(39)]
    ticks = [sign * power * step for sign in (-1, 1) for power in powers for step in (1, 3)]
    return (low, high), sorted(tick for tick in {0.0, *ticks} if low <= tick <= high)
