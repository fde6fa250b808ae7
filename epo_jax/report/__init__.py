"""What a run found, for people: a picture, a self-contained page and a console table.

Everything here starts from `ReportData`, plain arrays and strings, so that nothing in a report needs a model.
"""

from __future__ import annotations

from epo_jax.report.attribution_data import PromptDrops, Replacement, TokenDrops
from epo_jax.report.attribution_figure import attribution_figure, write_attribution_png
from epo_jax.report.attribution_html import render_attributions, write_attributions
from epo_jax.report.console import console_table
from epo_jax.report.data import ReportData
from epo_jax.report.dataset_figure import dataset_figure
from epo_jax.report.directions_figure import directions_figure
from epo_jax.report.evolution_figure import evolution_figure
from epo_jax.report.figures import frontier_figure, write_frontier_png
from epo_jax.report.html import render, write_report
from epo_jax.report.layers_figure import layers_figure
from epo_jax.report.line import Line
from epo_jax.report.saved_figure import write_figure
from epo_jax.report.seeds_figure import seeds_figure

__all__ = [
    "Line",
    "PromptDrops",
    "Replacement",
    "ReportData",
    "TokenDrops",
    "attribution_figure",
    "console_table",
    "dataset_figure",
    "directions_figure",
    "evolution_figure",
    "frontier_figure",
    "layers_figure",
    "render",
    "render_attributions",
    "seeds_figure",
    "write_attribution_png",
    "write_attributions",
    "write_figure",
    "write_frontier_png",
    "write_report",
]
