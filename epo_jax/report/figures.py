"""The picture of a run: every scored prompt, the frontier, and the frontier's prompts in words.

Figures are made without pyplot, so that nothing global is touched and no display is needed.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from epo_jax.report import data as numbers
from epo_jax.report.badges import draw_badges
from epo_jax.report.data import ReportData
from epo_jax.report.drawing import SANS, add_axes, fit_text, point_colour
from epo_jax.report.labels import choose
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.panel import columns, draw_panel, panel_height, prompt_lines
from epo_jax.report.plane import Frame, feature_plane

MOST_LABELS = 12


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
    x, y = (
        (x[usable], y[usable]) if usable.any() else (data.history_cross_entropy[finite], data.history_feature[finite])
    )
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
    data: ReportData,
    *,
    palette: Palette = LIGHT,
    title: bool = True,
    panel: bool = True,
    width: float = 10.5,
    height: float = 6.0,
) -> Figure:
    """Feature against cross-entropy (nats/token, perplexity above), with the frontier's prompts numbered.

    At most MOST_LABELS points are numbered, spread along the frontier, the best ones always among them. The numbers
    are the frontier's order, 1 to N. `title` names feature and model above, `panel` lists the numbered prompts below.
    Width and height of the plot are inches. Prompts with a non-finite value are not drawn.
    """
    usable = np.isfinite(data.frontier_feature) & np.isfinite(data.frontier_cross_entropy)
    points = np.stack([data.frontier_cross_entropy, data.frontier_feature], axis=1)[usable].astype(np.float64)
    order = np.flatnonzero(usable)
    best = [i for i in (numbers.best_fluent(data), numbers.best_overall(data)) if i is not None]
    required = [int(np.searchsorted(order, i)) for i in best]
    labelled = choose(points, [0, *required], MOST_LABELS) if len(points) else []
    rows = [int(order[i]) for i in labelled] if panel else []
    characters = columns(width)
    listing = [prompt_lines(data.frontier_tokens[row], characters) for row in rows]
    below = panel_height(listing) + 0.25 if rows else 0.0
    figure = Figure(figsize=(width, height + below), facecolor=palette.background)
    FigureCanvasAgg(figure)
    view = window(data)
    frame = (0.65, below + 0.62, width - 1.45, height - (1.75 if title else 1.25))
    axes, frame = feature_plane(figure, view.x, view.y, frame, palette, sizes=(9.0, 9.5), margin=0.19)
    _scatter(figure, axes, data, view, palette, frame)
    axes.plot(points[:, 0], points[:, 1], color=palette.line, linewidth=1.4, zorder=4)
    colours = [point_colour(int(i), data, palette) for i in order]
    axes.scatter(points[:, 0], points[:, 1], s=26, c=colours, edgecolors=palette.background, linewidths=0.8, zorder=5)
    texts = [str(int(order[i]) + 1) for i in labelled]
    draw_badges(axes, points, labelled, texts, [colours[i] for i in labelled], frame, palette)
    if title:
        _titles(figure, data, view, len(labelled), palette)
    if rows:
        draw_panel(figure, data, rows, listing, characters, palette)
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


def _scatter(
    figure: Figure,
    axes: Axes,
    data: ReportData,
    view: Window,
    palette: Palette,
    frame: Frame,
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
    bar = add_axes(figure, (frame[0] + frame[2] + 0.2, frame[1], 0.11, frame[3]))
    scale = figure.colorbar(cloud, cax=bar)
    if scale.solids is not None:
        scale.solids.set_alpha(1.0)
    scale.outline.set_visible(False)
    bar.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    bar.tick_params(colors=palette.muted, labelsize=8.5, length=0, labelfontfamily=SANS)
    bar.set_xlabel("iteration", labelpad=14, color=palette.muted, fontfamily=SANS, fontsize=8.5)


def _titles(figure: Figure, data: ReportData, view: Window, labelled: int, palette: Palette) -> None:
    width, height = (float(size) for size in figure.get_size_inches())
    title = f"{fit_text(data.feature, SANS, 64)} in {fit_text(data.model, SANS, 40)}"
    parts = [f"{data.history_feature.size:,} scored prompts", f"{numbers.iterations(data):,} iterations"]
    if view.outside:
        parts.append(f"{view.outside:,} less fluent or weaker prompts outside the picture")
    if labelled < len(data.frontier_tokens):
        parts.append(f"{labelled} of {len(data.frontier_tokens)} frontier prompts numbered")
    font: dict[str, Any] = {"ha": "left", "va": "baseline", "parse_math": False, "fontfamily": SANS}
    for text in (
        figure.text(0.3, height - 0.37, title, color=palette.ink, fontsize=13, fontweight="bold", **font),
        figure.text(0.3, height - 0.6, " · ".join(parts), color=palette.muted, fontsize=8.5, **font),
    ):
        text.set_transform(figure.dpi_scale_trans)
        room = (width - 0.6) * figure.dpi / text.get_window_extent().width
        text.set_fontsize(float(text.get_fontsize()) * min(1.0, 0.98 * room))
