"""Dreams against dataset examples of one feature (figure 3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from epo_jax.report.line import Line, limits_of
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.sheet import COLUMN, Key, new_sheet


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

    Args:
        dreams: The frontier of each run.
        examples: Dataset examples, scored as isolated prompts.
        title: Any characters.
        percentile: The 99.9th percentile of the feature in the corpus; NaN where it is not known.
        maximum: The largest value of the feature in the corpus, in context; NaN where it is not known.
        palette: Colours.
        width: Inches.
    """
    keys = [
        Key("dreams", {"color": palette.dream, "marker": "o", "markersize": 3.5}),
        Key("dataset examples", {"color": palette.dataset, "marker": "D", "markersize": 3.5, "linestyle": "none"}),
    ]
    x, y = limits_of([*dreams, examples], [percentile, maximum])
    sheet = new_sheet(title, "", keys, x, y, palette, width=width)
    for line in dreams:
        sheet.axes.plot(*line.points.T, **keys[0].style)
    sheet.axes.plot(*examples.points.T, **keys[1].style)
    for level in (percentile, maximum):
        sheet.axes.axhline(level, color=palette.dataset, linewidth=0.8)
    return sheet.figure
