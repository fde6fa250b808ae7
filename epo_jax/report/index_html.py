"""Many dreams as one page: a table to sort and to search, with a link to each report. It needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from epo_jax.report.data import FLUENT_BELOW
from epo_jax.report.pages import template, text_of
from epo_jax.report.scripts import digest
from epo_jax.report.tokens import one_line, visible


@dataclass(frozen=True)
class IndexRow:
    """One dream of many.

    Attributes:
        number: its place in the list.
        feature: the feature's string.
        seed: of its randomness.
        best: the greatest value; None where nothing was scored.
        best_cross_entropy: nats/token, of that prompt.
        best_text: that prompt.
        fluent: the greatest value below 6 nats/token; None where there is none.
        fluent_cross_entropy: nats/token, of that prompt.
        fluent_text: that prompt.
        frontier: prompts on the frontier.
        error: what went wrong; empty if nothing did.
        link: the report, seen from the page; empty if there is none.
    """

    number: int
    feature: str
    seed: int
    best: float | None
    best_cross_entropy: float | None
    best_text: str
    fluent: float | None
    fluent_cross_entropy: float | None
    fluent_text: str
    frontier: int | None
    error: str
    link: str


def render_index(title: str, rows: Sequence[IndexRow], dreams: int, kind: str = "Sweep") -> str:
    """The page.

    Args:
        title: what was swept, such as the model's name.
        rows: the dreams that are done.
        dreams: of all, those that are not done included.
        kind: what the folder is: "Sweep", or "Runs" of any origin, which have no table in a file beside the page.
    """
    script = text_of("index.js")
    told = [
        [
            row.number,
            one_line(row.feature),
            row.seed,
            _number(row.best),
            _number(row.best_cross_entropy),
            visible(row.best_text) if row.best_text else "",
            _number(row.fluent),
            _number(row.fluent_cross_entropy),
            visible(row.fluent_text) if row.fluent_text else "",
            row.frontier,
            one_line(row.error.removeprefix(f"--feature={row.feature}: ")),
            row.link,
        ]
        for row in rows
    ]
    # Inside a script element only "<" could end it, and JSON has another way to write it.
    data = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return template("index.html").render(
        title=one_line(title),
        kind=kind,
        done=len(rows),
        dreams=dreams,
        failed=sum(bool(row.error) for row in rows),
        seeds=len({row.seed for row in rows}) > 1,
        limit=f"{FLUENT_BELOW:g}",
        style=Markup(text_of("index.css")),
        script=Markup(script),
        hash=digest(script),
        data=Markup(data),
    )


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
