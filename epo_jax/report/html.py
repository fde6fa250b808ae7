"""A run as one HTML file that needs nothing else: no network, no fonts; scripts and plotting library are inside."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from PIL import Image

from epo_jax.report import data as numbers
from epo_jax.report.attribution_html import alternatives, entries
from epo_jax.report.data import FLUENT_BELOW, ReportData
from epo_jax.report.examples_html import MOST_EXAMPLES, examples_entry
from epo_jax.report.figures import frontier_png
from epo_jax.report.pages import template, text_of
from epo_jax.report.palette import DARK, LIGHT
from epo_jax.report.plot_data import plot_data
from epo_jax.report.scripts import digest, packed, page_script, plotting_library, theme_script
from epo_jax.report.tokens import one_line, plain

_SIZE = {"width": 10.5, "height": 5.4, "dpi": 100}


def render(data: ReportData, figure_png: bytes | None = None) -> str:
    """The page. Browsers without scripts see a picture in the place of the plot: drawn here, light and dark.

    `figure_png` takes the place of both. Cross-entropies are shown in nats/token.
    """
    told = plot_data(data)
    library, library_hash = plotting_library()
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
        drawn=f"{told['drawn']:,}",
        outside=f"{told['outside']:,}" if told["outside"] else "",
        iterations=f"{numbers.iterations(data):,}",
        scored=f"{data.history_feature.size:,}",
        landmarks=told["landmarks"],
        settings={str(name): str(value) for name, value in data.settings.items()},
        versions=data.versions,
        command=data.command,
        attributions=entries(data.attributions),
        alternatives=alternatives(data.attributions.values()),
        examples=None if data.examples is None else examples_entry(data.examples),
        strongest=range(len(data.frontier_tokens) - 1, -1, -1)[:MOST_EXAMPLES],
        told=Markup(packed(json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":")))),
        library=library,
        style=Markup(text_of("interactive.css")),
        theme=Markup(theme_script()),
        script=Markup(page_script()),
        hashes=[digest(theme_script()), digest(page_script()), library_hash],
    )


def write_report(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Writes `render(data)` to a UTF-8 file. Raises OSError where the file cannot be written."""
    Path(path).write_text(render(data), encoding="utf-8", newline="\n")


def _rows(data: ReportData) -> list[dict[str, object]]:
    overall, fluent = numbers.best_overall(data), numbers.best_fluent(data)
    more = numbers.format_columns(data)
    raw = {
        "feature": _raw(data.frontier_feature),
        "cross_entropy": _raw(data.frontier_cross_entropy),
        "perplexity": _raw(numbers.perplexity(data.frontier_cross_entropy)),
        **{name: _raw(values) for name, values in data.columns.items()},
    }
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
            "more": [(name, texts[index], raw[name][index]) for name, texts in more.items()],
            "continuation": data.continuations.get(index, ()),
            # What is sorted and copied: the whole numbers, and texts on one line.
            "raw": {
                "feature": raw["feature"][index],
                "cross_entropy": raw["cross_entropy"][index],
                "perplexity": raw["perplexity"][index],
                "iteration": str(int(iteration)),
                "prompt": one_line("".join(tokens)),
                "continuation": one_line("".join(data.continuations.get(index, ()))),
            },
            "overall": index == overall,
            "fluent": index == fluent,
        }
        for index, (feature, cross_entropy, perplexity, iteration, tokens, bar) in enumerate(columns)
    ]


def _raw(values: Float[np.ndarray, " n"] | Sequence[float | bool]) -> list[str]:
    """Numbers for machines, with the digits of a float32; empty where one is not finite. Truths are 1 and 0."""
    return [f"{value:.7g}" if math.isfinite(value) else "" for value in np.asarray(values, np.float64).tolist()]


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
        name: _data_uri(_few_colours(frontier_png(data, palette=palette, title=False, panel=False, **_SIZE)))
        for name, palette in (("light", LIGHT), ("dark", DARK))
    }


def _few_colours(png: bytes) -> bytes:
    """The picture in 64 colours, a fifth of the bytes: few browsers without scripts will ever look at it."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
