"""A run as one HTML file that needs nothing else: no network, no scripts, no fonts."""

from __future__ import annotations

import base64
import math
import os
from pathlib import Path

from epo_jax.report import data as numbers
from epo_jax.report.attribution_html import alternatives, entries
from epo_jax.report.data import FLUENT_BELOW, ReportData
from epo_jax.report.figures import frontier_png, window
from epo_jax.report.pages import template
from epo_jax.report.palette import DARK, LIGHT
from epo_jax.report.tokens import one_line, plain

_WIDE = {"width": 10.5, "height": 5.4, "dpi": 150}
_NARROW = {"width": 4.2, "height": 4.1, "dpi": 180}


def render(data: ReportData, figure_png: bytes | None = None) -> str:
    """The page. Without `figure_png` it draws four pictures: light and dark, for wide and for narrow windows.

    `figure_png` takes the place of all of them. Cross-entropies are shown in nats/token.
    """
    return template("report.html").render(
        feature=one_line(data.feature),
        model=one_line(data.model),
        rows=_rows(data),
        columns=list(data.columns),
        total=len(data.frontier_tokens),
        prefix=data.prefix,
        suffix=data.suffix,
        stopped=data.stopped,
        limit=f"{FLUENT_BELOW:g}",
        pictures=_pictures(data, figure_png),
        outside=f"{window(data).outside:,}" if figure_png is None and window(data).outside else "",
        iterations=f"{numbers.iterations(data):,}",
        scored=f"{data.history_feature.size:,}",
        settings={str(name): str(value) for name, value in data.settings.items()},
        versions=data.versions,
        command=data.command,
        attributions=entries(data.attributions),
        alternatives=alternatives(data.attributions.values()),
    )


def write_report(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Writes `render(data)` to a UTF-8 file. Raises OSError where the file cannot be written."""
    Path(path).write_text(render(data), encoding="utf-8", newline="\n")


def _rows(data: ReportData) -> list[dict[str, object]]:
    overall, fluent = numbers.best_overall(data), numbers.best_fluent(data)
    more = numbers.format_columns(data)
    columns = zip(
        numbers.format_feature(data.frontier_feature),
        numbers.format_cross_entropy(data.frontier_cross_entropy),
        numbers.format_perplexity(data.frontier_cross_entropy),
        data.frontier_iteration,
        data.frontier_tokens,
        _bars(data),
        strict=True,
    )
    return [
        {
            "number": index + 1,
            "feature": feature,
            "cross_entropy": cross_entropy,
            "perplexity": perplexity,
            "iteration": f"{int(iteration):,}",
            "tokens": tokens,
            "plain": plain("".join(tokens)),
            "bar": bar,
            "more": {name: texts[index] for name, texts in more.items()},
            "overall": index == overall,
            "fluent": index == fluent,
        }
        for index, (feature, cross_entropy, perplexity, iteration, tokens, bar) in enumerate(columns)
    ]


def _bars(data: ReportData) -> list[int]:
    """Each feature as a whole percentage of the largest, 0 where it is negative or not finite."""
    largest = max((float(v) for v in data.frontier_feature if math.isfinite(v)), default=0.0)
    if largest <= 0:
        return [0] * len(data.frontier_feature)
    return [round(100 * max(float(v), 0.0) / largest) if math.isfinite(v) else 0 for v in data.frontier_feature]


def _pictures(data: ReportData, figure_png: bytes | None) -> dict[str, str]:
    if figure_png is not None:
        return {"only": _data_uri(figure_png)}
    return {
        name: _data_uri(frontier_png(data, palette=palette, title=False, panel=False, **size))
        for name, palette, size in (
            ("wide_light", LIGHT, _WIDE),
            ("wide_dark", DARK, _WIDE),
            ("narrow_light", LIGHT, _NARROW),
            ("narrow_dark", DARK, _NARROW),
        )
    }


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
