"""What a run found, for people: a picture, a self-contained page and a console table.

Everything here starts from `ReportData`, plain arrays and strings, so that nothing in a report needs a model.
"""

from __future__ import annotations

from epo_jax.report.console import console_table
from epo_jax.report.data import ReportData
from epo_jax.report.figures import frontier_figure, write_frontier_png
from epo_jax.report.html import render, write_report

__all__ = ["ReportData", "console_table", "frontier_figure", "render", "write_frontier_png", "write_report"]
