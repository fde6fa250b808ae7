"""Dreams against dataset examples of many features, a panel for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from epo_jax.report.dataset_figure import comparison_keys, corpus_levels, draw_comparison
from epo_jax.report.drawing import add_axes, shorten, write
from epo_jax.report.line import Line, limits_of
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.plane import CROSS_ENTROPY, FIRES_MORE, Limits, dress, perplexity_above
from epo_jax.report.sheet import PAGE, SIZE, draw_keys, key_height, key_rows, write_titles

COLUMNS, ROWS = 3, 4
_WIDE, _HIGH = 1.72, 1.25  # inches, of a panel's axes
_LEFT, _ACROSS, _DOWN = 0.55, 0.44, 0.36  # inches: left of the panels, between their columns, between their rows


@dataclass(frozen=True, eq=False)
class Panel:
    """What `dataset_figure` shows of one feature; the title is the panel's."""

    title: str
    dreams: Sequence[Line]
    examples: Line
    percentile: float
    maximum: float


def dataset_pages(panels: Sequence[Panel], title: str, *, palette: Palette = LIGHT) -> list[Figure]:
    """Pages of COLUMNS by ROWS panels, all with one scale of cross-entropy; at least one page.

    Args:
        panels: In the order in which they are read.
        title: Of each page, any characters; the page's number follows where there are several.
        palette: Colours.
    """
    x, _ = limits_of([line for panel in panels for line in (*panel.dreams, panel.examples)])
    size = COLUMNS * ROWS
    pages = [panels[start : start + size] for start in range(0, max(len(panels), 1), size)]
    titles = [f"{title} ({number} of {len(pages)})" if len(pages) > 1 else title for number in range(1, len(pages) + 1)]
    return [_page(page, one, x, palette) for page, one in zip(pages, titles, strict=True)]


def _page(panels: Sequence[Panel], title: str, x: Limits, palette: Palette) -> Figure:
    rows = -(-max(len(panels), 1) // COLUMNS)
    most = max((len(panel.dreams) for panel in panels), default=1)
    keys = key_rows(comparison_keys(most, palette), PAGE - 0.1)
    bottom = key_height(keys) + 0.45
    above = bottom + rows * (_HIGH + _DOWN)
    figure = Figure(figsize=(PAGE, above + 0.58), facecolor=palette.background)
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        left = _LEFT + column * (_WIDE + _ACROSS)
        low = bottom + (rows - 1 - row) * (_HIGH + _DOWN)
        last = number + COLUMNS >= len(panels)
        _panel(figure, panel, (left, low), x, palette, top=row == 0, last=last)
    write_titles(figure, title, "", palette)
    font = {"size": SIZE, "color": palette.muted, "ha": "center"}
    middle = _LEFT + (PAGE - _LEFT) / 2
    write(figure, middle, above + 0.26, "perplexity", **font)
    write(figure, middle, bottom - 0.4, CROSS_ENTROPY, **font)
    write(figure, 0.13, (bottom + above) / 2, FIRES_MORE, **font, rotation=90, va="center")
    draw_keys(figure, keys, key_height(keys), palette)
    return figure


def _panel(
    figure: Figure, panel: Panel, corner: tuple[float, float], x: Limits, palette: Palette, *, top: bool, last: bool
) -> None:
    levels = corpus_levels(panel.percentile, panel.maximum, palette)
    _, y = limits_of([*panel.dreams, panel.examples], [level.value for level in levels])
    axes = add_axes(figure, (*corner, _WIDE, _HIGH))
    axes.set(xlim=x, ylim=y)
    dress(axes, palette, SIZE)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelbottom=last)
    if top:
        perplexity_above(axes, palette, (SIZE, SIZE), fewest=2, scale=_WIDE / (x[1] - x[0]), room=0.15, label=False)
    draw_comparison(axes, panel.dreams, panel.examples, levels, palette, scale=0.75)
    y_title = corner[1] + _HIGH + (0.25 if top else 0.05)
    name = shorten(panel.title, _WIDE, SIZE, weight="bold")
    write(figure, corner[0], y_title, name, size=SIZE, color=palette.ink, fontweight="bold")
