"""The picture of a run: every scored prompt, the frontier, and the frontier's prompts in words.

Figures are made without pyplot, so that nothing global is touched and no display is needed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from unicodedata import bidirectional, combining

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from epo_jax.report import data as numbers
from epo_jax.report.data import FLUENT_BELOW, ReportData
from epo_jax.report.labels import break_lines, choose, place
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.tokens import one_line, visible

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"
MOST_LABELS = 12
_POINTS = 72.0
_ADVANCE = 0.602  # width of a DejaVu Sans Mono character, in units of the font size
_TEXT_SIZE = 8.5
_ROW = 0.225  # inches
_COLUMNS = (3, 11, 23, 33, 36)  # right edges of three numbers, left edge of the prompt, in characters after the number


@dataclass(frozen=True)
class Window:
    """The part of the plane that is drawn: cross-entropy (nats/token) and feature limits, and the finite prompts."""

    x: tuple[float, float]
    y: tuple[float, float]
    inside: Bool[np.ndarray, "M"]
    outside: int


def window(data: ReportData) -> Window:
    """The frontier and its surroundings.

    Prompts to the right of the frontier's end are less fluent *and* fire less than it, so only a quarter of the
    frontier's width (half a nat at least) is shown of them; random starts far out would squeeze the rest. Below, the
    lowest 2% of what is left are cut unless the frontier reaches down there.
    """
    x, y = data.frontier_cross_entropy, data.frontier_feature
    usable = np.isfinite(x) & np.isfinite(y)
    finite = np.isfinite(data.history_feature) & np.isfinite(data.history_cross_entropy)
    x, y = (x[usable], y[usable]) if usable.any() else (data.history_cross_entropy[finite], data.history_feature[finite])
    if not x.size:
        return Window((0.0, 1.0), (0.0, 1.0), finite, 0)
    left, right = float(x.min()), float(x.max())
    margin = max(0.25 * (right - left), 0.5)
    left, right = max(left - 0.4 * margin, min(left, 0.0)), right + margin
    inside = finite & (data.history_cross_entropy >= left) & (data.history_cross_entropy <= right)
    low, high = float(y.min()), float(y.max())
    if inside.any():
        low = min(low, float(np.percentile(data.history_feature[inside], 2)))
    pad = (high - low) or max(abs(high), 1e-3)
    inside &= (data.history_feature >= low - 0.05 * pad) & (data.history_feature <= high + 0.14 * pad)
    return Window((left, right), (low - 0.05 * pad, high + 0.14 * pad), inside, int(finite.sum() - inside.sum()))


def frontier_figure(
    data: ReportData, *, palette: Palette = LIGHT, panel: bool = True, width: float = 10.5, height: float = 6.0
) -> Figure:
    """Feature against cross-entropy (nats/token, perplexity above), with the frontier's prompts numbered.

    At most MOST_LABELS points are numbered, spread along the frontier, the best ones always among them. The numbers
    are the frontier's order, 1 to N. With `panel` the numbered prompts are listed below. Width and height of the plot
    are inches. Prompts with a non-finite value are not drawn.
    """
    usable = np.isfinite(data.frontier_feature) & np.isfinite(data.frontier_cross_entropy)
    points = np.stack([data.frontier_cross_entropy, data.frontier_feature], axis=1)[usable].astype(np.float64)
    order = np.flatnonzero(usable)
    best = [i for i in (numbers.best_fluent(data), numbers.best_overall(data)) if i is not None]
    required = [int(np.searchsorted(order, i)) for i in best]
    labelled = choose(points, [0, *required], MOST_LABELS) if len(points) else []
    rows = [int(order[i]) for i in labelled] if panel else []
    columns = int((width - 0.75) * _POINTS / (_ADVANCE * _TEXT_SIZE))
    listing = [_lines(data.frontier_tokens[row], columns - _COLUMNS[-1]) for row in rows]
    below = (sum(map(len, listing)) + 1.6) * _ROW + 0.25 if rows else 0.0
    figure = Figure(figsize=(width, height + below), facecolor=palette.background)
    FigureCanvasAgg(figure)
    frame = (0.75, below + 0.62, width - 1.75, height - 1.75)  # left, bottom, width, height in inches
    axes = _add_axes(figure, frame)
    view = window(data)
    _style(axes, palette, view)
    _scatter(figure, axes, data, view, palette, frame)
    axes.plot(points[:, 0], points[:, 1], color=palette.line, linewidth=1.4, zorder=4)
    colours = [_colour(int(i), data, palette) for i in order]
    axes.scatter(points[:, 0], points[:, 1], s=26, c=colours, edgecolors=palette.background, linewidths=0.8, zorder=5)
    _badges(axes, points, labelled, [order[i] for i in labelled], [colours[i] for i in labelled], frame, palette)
    _titles(figure, data, view, len(labelled), palette)
    if rows:
        _panel(figure, data, rows, listing, columns, palette)
    return figure


def frontier_png(data: ReportData, *, dpi: float = 150, **options: Any) -> bytes:
    """`frontier_figure(data, **options)` as the bytes of a PNG."""
    buffer = io.BytesIO()
    # No software version inside: the same data gives the same bytes.
    frontier_figure(data, **options).savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def write_frontier_png(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Writes `frontier_figure(data)` to a PNG file. Raises OSError where the file cannot be written."""
    with open(path, "wb") as file:
        file.write(frontier_png(data))


@cache
def _glyphs(family: str) -> frozenset[int]:
    font = font_manager.get_font(font_manager.findfont(family))
    return frozenset(font.get_charmap())


def _drawable(character: str, family: str) -> bool:
    # Right-to-left letters and combining marks would leave the cell that the layout reserves for them.
    simple = bidirectional(character) not in {"R", "AL"} and not combining(character)
    return simple and ord(character) in _glyphs(family)


def _text(text: str, family: str, limit: int) -> str:
    shown = one_line(text, partial(_drawable, family=family))
    return shown if len(shown) <= limit else f"{shown[: limit * 2 // 3]}…{shown[len(shown) - limit // 3 + 1 :]}"


def _lines(tokens: Sequence[str], columns: int) -> list[list[tuple[str, int, int]]]:
    """The prompt's lines: (text, start column, index of the token, or -1 for a gap)."""
    texts = [_text(visible(token), MONO, columns) for token in tokens]
    lines = break_lines([len(text) for text in texts], columns, 3)
    return [[("…" if item < 0 else texts[item], start, item) for item, start in line] for line in lines]


def _colour(index: int, data: ReportData, palette: Palette) -> str:
    if index == numbers.best_overall(data):
        return palette.overall
    return palette.fluent if index == numbers.best_fluent(data) else palette.line


def _add_axes(figure: Figure, inches: tuple[float, float, float, float]) -> Axes:
    width, height = figure.get_size_inches()
    left, bottom, wide, high = inches
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def _style(axes: Axes, palette: Palette, view: Window) -> None:
    axes.set(xlim=view.x, ylim=view.y, facecolor=palette.background)
    axes.grid(color=palette.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.yaxis.set_major_locator(MaxNLocator(7))
    above = axes.secondary_xaxis("top")
    ticks, names = _perplexity_ticks(view.x)
    above.xaxis.set_major_locator(FixedLocator(ticks))
    above.xaxis.set_minor_locator(NullLocator())
    above.set_xticklabels(names)
    for part in (axes, above):
        part.tick_params(colors=palette.muted, labelsize=9, length=3, labelfontfamily=SANS)
        for spine in part.spines.values():
            spine.set_color(palette.grid)
    font = {"color": palette.muted, "fontfamily": SANS, "fontsize": 9.5}
    axes.set_xlabel("cross-entropy (nats/token)  ← more fluent", **font)
    axes.set_ylabel("feature  fires more →", **font)
    above.set_xlabel("perplexity", **font)


def _perplexity_ticks(limits: tuple[float, float]) -> tuple[list[float], list[str]]:
    powers = 10.0 ** np.arange(np.floor(limits[0] / np.log(10)) - 1, np.ceil(limits[1] / np.log(10)) + 1)
    values = np.array([])
    for steps in ([1.0], [1.0, 3.0], [1.0, 2.0, 5.0], [1.0, 1.5, 2.0, 3.0, 5.0, 7.0]):
        values = np.outer(powers, steps).ravel()
        values = values[(np.log(values) >= limits[0]) & (np.log(values) <= limits[1])]
        if len(values) >= 4:
            break
    return [float(np.log(v)) for v in values], [f"{v:,.0f}" if 10 <= v < 1e6 else f"{v:.2g}" for v in values]


def _scatter(
    figure: Figure,
    axes: Axes,
    data: ReportData,
    view: Window,
    palette: Palette,
    frame: tuple[float, float, float, float],
) -> None:
    if not view.inside.any():
        return
    kept = np.flatnonzero(view.inside)
    kept = kept[np.argsort(data.history_iteration[kept], kind="stable")]  # later prompts on top
    ramp = LinearSegmentedColormap.from_list("iterations", palette.ramp)
    cloud = axes.scatter(
        data.history_cross_entropy[kept],
        data.history_feature[kept],
        c=data.history_iteration[kept],
        s=float(np.clip(30_000 / len(kept), 3.0, 9.0)),
        cmap=ramp,
        vmin=0,
        vmax=max(numbers.iterations(data), 1),
        alpha=0.55,
        linewidths=0,
        zorder=2,
        rasterized=True,
    )
    bar = _add_axes(figure, (frame[0] + frame[2] + 0.2, frame[1], 0.11, frame[3]))
    scale = figure.colorbar(cloud, cax=bar)
    scale.solids.set_alpha(1.0)
    scale.outline.set_visible(False)  # type: ignore[operator]
    bar.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    bar.tick_params(colors=palette.muted, labelsize=8.5, length=0, labelfontfamily=SANS)
    scale.set_label("iteration", color=palette.muted, fontfamily=SANS, fontsize=9)


def _badges(
    axes: Axes,
    points: Float[np.ndarray, "n 2"],
    labelled: Sequence[int],
    rows: Sequence[int],
    colours: Sequence[str],
    frame: tuple[float, float, float, float],
    palette: Palette,
) -> None:
    size = np.array(frame[2:]) * _POINTS
    low = np.array([axes.get_xlim()[0], axes.get_ylim()[0]])
    span = np.array([axes.get_xlim()[1], axes.get_ylim()[1]]) - low
    centres = place((points - low) / span * size, labelled, (float(size[0]), float(size[1])), radius=7.5)
    for point, centre, row, colour in zip(points[list(labelled)], centres, rows, colours, strict=True):
        axes.annotate(
            str(row + 1),
            xy=(point[0], point[1]),
            xytext=tuple(centre / size * span + low),
            ha="center",
            va="center_baseline",
            color=palette.badge_ink,
            fontsize=7.5,
            fontfamily=SANS,
            fontweight="bold",
            bbox={"boxstyle": "circle,pad=0.28", "facecolor": colour, "edgecolor": "none"},
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2},
            zorder=6,
        )


def _titles(figure: Figure, data: ReportData, view: Window, labelled: int, palette: Palette) -> None:
    width, height = figure.get_size_inches()
    room = int((width - 0.6) * _POINTS / 8.2)
    title = f"{_text(data.feature, SANS, room * 2 // 3)} in {_text(data.model, SANS, room // 3)}"
    parts = [f"{data.history_feature.size:,} scored prompts", f"{numbers.iterations(data):,} iterations"]
    if view.outside:
        parts.append(f"{view.outside:,} less fluent or weaker prompts outside the picture")
    if labelled < len(data.frontier_tokens):
        parts.append(f"{labelled} of {len(data.frontier_tokens)} frontier prompts numbered")
    if width < 7:
        parts = parts[:2]
    font: dict[str, Any] = {"ha": "left", "va": "baseline", "parse_math": False, "fontfamily": SANS}
    size = min(13.0, 13.0 * room / max(len(title), 1))
    figure.text(0.3 / width, 1 - 0.37 / height, title, color=palette.ink, fontsize=size, fontweight="bold", **font)
    figure.text(0.3 / width, 1 - 0.6 / height, " · ".join(parts), color=palette.muted, fontsize=8.5, **font)


def _panel(
    figure: Figure,
    data: ReportData,
    rows: Sequence[int],
    listing: Sequence[list[list[tuple[str, int, int]]]],
    columns: int,
    palette: Palette,
) -> None:
    """The numbered prompts in a grid of characters, one token in each tinted box."""
    high = sum(map(len, listing)) + 1.6
    advance = _ADVANCE * _TEXT_SIZE / _POINTS
    axes = _add_axes(figure, (0.45, 0.2, columns * advance, high * _ROW))
    axes.set(xlim=(0, columns), ylim=(high, 0))
    axes.axis("off")
    font: dict[str, Any] = {"fontsize": _TEXT_SIZE, "va": "center", "parse_math": False, "fontfamily": MONO}
    heads = zip(_COLUMNS[1:], ("feature", "nats/token", "perplexity"), strict=False)
    for column, name in heads:
        axes.text(column, 0.5, name, color=palette.muted, ha="right", **font)
    note = f"prompt, a box for each token  (orange: best overall, green: best below {FLUENT_BELOW:g} nats/token)"
    axes.text(_COLUMNS[-1], 0.5, note, color=palette.muted, **font)
    values = (
        numbers.format_feature(data.frontier_feature),
        numbers.format_cross_entropy(data.frontier_cross_entropy),
        numbers.format_perplexity(data.frontier_cross_entropy),
    )
    y = 1.6
    for row, lines in zip(rows, listing, strict=True):
        colour = _colour(row, data, palette)
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
