"""What a run found, for people: a picture, a self-contained page and a console table.

Everything here starts from `ReportData`, plain arrays and strings, so that nothing in a report needs a model.
"""

from __future__ import annotations

from epo_jax.report.attribution_data import PromptDrops, Replacement, TokenDrops
from epo_jax.report.attribution_figure import attribution_figure, write_attribution_png
from epo_jax.report.attribution_html import render_attributions, write_attributions
from epo_jax.report.console import console_table
from epo_jax.report.data import ReportData
from epo_jax.report.figures import frontier_figure, write_frontier_png
from epo_jax.report.html import render, write_report

__all__ = [
    "PromptDrops",
    "Replacement",
    "ReportData",
    "TokenDrops",
    "attribution_figure",
    "console_table",
    "frontier_figure",
    "render",
    "render_attributions",
    "write_attribution_png",
    "write_attributions",
    "write_frontier_png",
    "write_report",
]
