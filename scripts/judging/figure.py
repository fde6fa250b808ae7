"""How fast methods find what they find: hypervolume against rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from epo_jax.report.drawing import SANS, add_axes, write
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.plane import dress
from epo_jax.report.sheet import PAGE, SIZE, Key, draw_keys, key_height, key_rows, write_titles
from judging.features import KINDS, kind_of
from judging.methods import REFERENCE
from judging.records import Record

_LEFT, _ACROSS, _HIGH, _BETWEEN = 0.55, 0.3, 1.7, 0.62  # inches


def curves_figure(records: Sequence[Record], title: str, *, palette: Palette = LIGHT) -> Figure:
    """A panel for each kind of feature, a line for each method: the median of its runs.

    Each run is taken against the hypervolume that the paper's run of its feature and seed ends with, and runs without
    one are left out; where the paper's search was not run at all, hypervolumes are shown as they are. Medians are of
    the same features and seeds: above, those of the methods that ran most of them; below, where some ran fewer, of all
    methods on those that all ran.

    Args:
        records: of one model and size, those of a method first that is to be drawn first.
        title: any characters.
        palette: colours.
    """
    ends = {(one.run.feature, one.run.seed): one.reached[-1] for one in records if one.run.method == REFERENCE}
    units = {key: end for key, end in ends.items() if end > 0}
    paired = [one for one in records if (one.run.feature, one.run.seed) in units]
    shown = paired or list(records)
    methods = list(dict.fromkeys(one.run.method for one in shown))
    keys = {method: Key(method, style) for method, style in zip(methods, _styles(len(methods), palette), strict=True)}
    bands = alike(shown)
    rows = key_rows(list(keys.values()), PAGE - 0.1)
    bottom = key_height(rows) + 0.42
    figure = Figure(figsize=(PAGE, bottom + len(bands) * (_HIGH + _BETWEEN)), facecolor=palette.background)
    FigureCanvasAgg(figure)
    for place, band in enumerate(reversed(bands)):
        _draw(figure, bottom + place * (_HIGH + _BETWEEN), band, units if paired else {}, keys, palette)
    said = "median over features and seeds"
    write_titles(figure, title, said if len(bands) < 2 else f"{said}; below, over those that all methods ran", palette)
    draw_keys(figure, rows, key_height(rows), palette)
    return figure


def alike(records: Sequence[Record]) -> list[list[Record]]:
    """Runs whose medians may be held against one another: of the methods with most runs, and of all on what all ran.

    The second is left out where it would be the first, or where there is nothing that all ran.
    """
    by_method: dict[str, set[tuple[str, int]]] = {}
    for one in records:
        by_method.setdefault(one.run.method, set()).add((one.run.feature, one.run.seed))
    most = max(map(len, by_method.values()), default=0)
    bands = [[one for one in records if len(by_method[one.run.method]) == most]]
    common = set.intersection(*by_method.values()) if by_method else set()
    if len(bands[0]) < len(records) and common:
        bands.append([one for one in records if (one.run.feature, one.run.seed) in common])
    return bands


def _draw(
    figure: Figure,
    bottom: float,
    records: Sequence[Record],
    units: dict[tuple[str, int], float],
    keys: dict[str, Key],
    palette: Palette,
) -> None:
    """Panels side by side."""
    kinds = [kind for kind in KINDS if any(kind_of(one.run.feature) == kind for one in records)]
    wide = (PAGE - _LEFT - 0.1 - _ACROSS * (len(kinds) - 1)) / max(len(kinds), 1)
    for place, kind in enumerate(kinds):
        left = _LEFT + place * (wide + _ACROSS)
        axes = add_axes(figure, (left, bottom, wide, _HIGH))
        dress(axes, palette, SIZE)
        own = [one for one in records if kind_of(one.run.feature) == kind]
        for method, key in keys.items():
            found = [one for one in own if one.run.method == method]
            if found:
                axes.plot(found[0].rows / 1000, median_curve(found, units), **key.style)
        axes.set(xlim=(0, own[0].rows[-1] / 1000))
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        font: dict[str, Any] = {"color": palette.muted, "fontfamily": SANS, "fontsize": SIZE}
        axes.set_xlabel("thousand rows", **font)
        if place == 0:
            axes.set_ylabel("hypervolume, of the paper's" if units else "hypervolume", **font)
        count = len({one.run.feature for one in own})
        head = f"{count} {kind}{'s' if count > 1 else ''}"
        write(figure, left, bottom + _HIGH + 0.06, head, size=SIZE, color=palette.ink, fontweight="bold")


def median_curve(records: Iterable[Record], units: dict[tuple[str, int], float]) -> Float64[np.ndarray, " n"]:
    """The median of curves at each point, each in a unit of its feature and seed; 1 where there is none."""
    return np.median([one.reached / units.get((one.run.feature, one.run.seed), 1.0) for one in records], axis=0)


def _styles(count: int, palette: Palette) -> list[dict[str, Any]]:
    colours = (palette.dream, palette.overall, palette.fluent, palette.random, palette.dataset, palette.ink)
    dashes = ("solid", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.5, 1, 1.5)))
    return [
        {
            "color": colours[number % len(colours)],
            "linestyle": dashes[number // len(colours) % len(dashes)],
            "linewidth": 1.4,
        }
        for number in range(count)
    ]
