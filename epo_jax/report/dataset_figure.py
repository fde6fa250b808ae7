"""Dreams against dataset examples of one feature (figure 3 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from epo_jax.report.attribution_marks import signed
from epo_jax.report.badges import draw_badges
from epo_jax.report.data import format_cross_entropy, format_feature
from epo_jax.report.drawing import SANS
from epo_jax.report.line import Line, limits_of
from epo_jax.report.margin import Level, label_levels, margin_for
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.prompt_list import Listed, draw_list, list_height
from epo_jax.report.sheet import COLUMN, SIZE, Key, new_sheet


@dataclass(frozen=True)
class Best:
    """A prompt that a reader looks for: what it is, where it stands, its line and its place there."""

    what: str
    line: Line
    row: int

    @property
    def point(self) -> tuple[float, float]:
        """Cross-entropy (nats/token) and feature."""
        return float(self.line.cross_entropy[self.row]), float(self.line.feature[self.row])


def dataset_figure(
    dreams: Sequence[Line],
    examples: Line,
    title: str,
    *,
    percentile: float,
    maximum: float,
    palette: Palette = LIGHT,
    width: float = COLUMN,
) -> Figure:
    """Activation against cross-entropy of both, as isolated prompts, with what the corpus has in context.

    An arrow goes from the best example to the best dream that is as fluent. Lines with tokens have their best prompts
    listed below, in words.

    Args:
        dreams: The frontier of each run.
        examples: Dataset examples, scored as isolated prompts.
        title: Any characters.
        percentile: The 99.9th percentile of the feature in the corpus; NaN where it is not known.
        maximum: The largest value of the feature in the corpus, in context; NaN where it is not known.
        palette: Colours.
        width: Inches.
    """
    levels = corpus_levels(percentile, maximum, palette)
    bests = [best for best in best_prompts(dreams, examples) if best.line.tokens]
    colours = [palette.dataset if best.line is examples else palette.dream for best in bests]
    listed = [
        Listed(letter, colour, _told(best), best.line.tokens[best.row])
        for letter, colour, best in zip("abc", colours, bests, strict=False)
    ]
    below = list_height(listed, width) + 0.04 if listed else 0.0
    x, y = limits_of([*dreams, examples], [level.value for level in levels])
    keys = comparison_keys(len(dreams), palette)
    right = margin_for(levels)
    sheet = new_sheet(title, "", keys, x, y, palette, width=width, height=2.3, right=right, below=below)
    draw_comparison(sheet.axes, dreams, examples, levels, palette)
    label_levels(sheet, levels, start=0.0)
    if listed:
        points = np.concatenate([*(line.points for line in dreams), examples.points, [best.point for best in bests]])
        marked = range(len(points) - len(bests), len(points))
        texts = [one.badge for one in listed]
        line = dreams[0].points if dreams else None
        draw_badges(sheet.axes, points, marked, texts, colours, sheet.frame, palette, size=SIZE, pad=0.12, line=line)
        draw_list(sheet.figure, listed, below, palette)
    return sheet.figure


def best_prompts(dreams: Sequence[Line], examples: Line) -> list[Best]:
    """The best example, the best dream that is as fluent, and the best dream; those that there are, each once."""
    found = []
    row = examples.best()
    if row is not None:
        found.append(Best("best of the dataset", examples, row))
        limit = float(examples.cross_entropy[row])
        found += _best_dream("best dream as fluent as that", dreams, limit)
    overall = _best_dream("best dream", dreams, math.inf)
    return found + [one for one in overall if all((one.line, one.row) != (other.line, other.row) for other in found)]


def comparison_keys(dreams: int, palette: Palette, scale: float = 1.0) -> list[Key]:
    """What the marks of a comparison mean, with so many dreams; `scale` makes the marks smaller or larger."""
    size = 3.2 * scale
    line: dict[str, Any] = {"color": palette.dream, "marker": "o", "markersize": size, "linewidth": 1.3 * scale}
    dots: dict[str, Any] = {"color": palette.dataset, "marker": "D", "markersize": size, "linestyle": "none"}
    dots |= {"markerfacecolor": "none", "markeredgewidth": 0.8}
    return [
        Key("dream" if dreams == 1 else f"{dreams} dreams", line),
        Key("dataset examples", dots),
        Key("dataset's maximum in context", {"color": palette.dataset, "linewidth": 1.0}),
        Key("its 99.9th percentile", {"color": palette.dataset, "linewidth": 1.0, "linestyle": (0, (4, 2))}),
    ]


def corpus_levels(percentile: float, maximum: float, palette: Palette) -> list[Level]:
    """The percentile and the maximum of a corpus, where they are known."""
    texts = format_feature(np.array([percentile, maximum]))
    known = zip((percentile, maximum), texts, ("99.9%", "max"), strict=True)
    return [Level(value, f"{name} {text}", palette.ink) for value, text, name in known if math.isfinite(value)]


def draw_comparison(
    axes: Axes, dreams: Sequence[Line], examples: Line, levels: Sequence[Level], palette: Palette, scale: float = 1.0
) -> None:
    """Draws dreams, examples, levels (as `corpus_levels` gives them) and how far apart the best ones are."""
    line, dots, highest, percentile = (key.style for key in comparison_keys(len(dreams), palette, scale))
    for level in levels:
        axes.axhline(level.value, **(highest if level.text.startswith("max") else percentile), zorder=2)
    axes.plot(*examples.points.T, **dots, zorder=3)
    for dream in dreams:
        axes.plot(*dream.points.T, **line, zorder=4)
    row = examples.best()
    if row is None:
        return
    nats, value = float(examples.cross_entropy[row]), float(examples.feature[row])
    reached = _best_dream("", dreams, nats)
    if reached:
        _arrow(axes, nats, value, reached[0].point, palette)


def _arrow(axes: Axes, nats: float, value: float, dream: tuple[float, float], palette: Palette) -> None:
    """From the best example to the height of the best dream that is as fluent, with the difference beside it."""
    axes.plot([dream[0], nats], [dream[1]] * 2, color=palette.ink, linewidth=0.7, linestyle=(0, (1, 1.5)), zorder=5)
    ends = axes.transData.transform([(nats, value), (nats, dream[1])])
    # A head that is longer than the arrow would hide the point.
    long = abs(ends[1, 1] - ends[0, 1]) > 0.15 * axes.figure.dpi
    style = "-|>,head_width=0.15,head_length=0.3" if long else "-"
    arrow = {"arrowstyle": style, "color": palette.ink, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(nats, dream[1]), xytext=(nats, value), arrowprops=arrow, zorder=6)
    text = signed(format_feature(np.array([dream[1] - value, dream[1], value]))[0], dream[1] - value)
    axes.annotate(
        text,
        xy=(nats, (dream[1] + value) / 2),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=palette.ink,
        fontsize=SIZE,
        fontfamily=SANS,
        fontweight="bold",
        bbox={"boxstyle": "square,pad=0.05", "facecolor": palette.background, "edgecolor": "none", "alpha": 0.8},
        zorder=6,
    )


def _best_dream(what: str, dreams: Sequence[Line], limit: float) -> list[Best]:
    found = [(line, line.best(limit, including=True)) for line in dreams]
    bests = [Best(what, line, row) for line, row in found if row is not None]
    return [max(bests, key=lambda best: best.point[1])] if bests else []


def _told(best: Best) -> str:
    nats, value = best.point
    value_text, nats_text = format_feature(np.array([value]))[0], format_cross_entropy(np.array([nats]))[0]
    return f"{best.what}: {value_text} at {nats_text} nats/token"
