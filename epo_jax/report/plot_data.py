"""What the interactive plot draws, as JSON values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from epo_jax.report import data as numbers
from epo_jax.report.data import ReportData
from epo_jax.report.examples_data import Examples
from epo_jax.report.figures import Window, window
from epo_jax.report.frontiers import Moment, frontiers
from epo_jax.report.palette import DARK, LIGHT
from epo_jax.report.tokens import pieces

MOST_INSIDE, MOST_OUTSIDE = 5_000, 1_000
"""Scored prompts that are drawn, in the first view of the plot and around it."""
LANDMARKS = (20, 40, 100, 300)
"""Iterations whose frontiers stay in sight, those of the paper's figure."""
EXAMPLES = {"light": "#7c3aed", "dark": "#b79cff"}
"""The colour of dataset examples, told apart from both of the best prompts'."""


def plot_data(data: ReportData) -> dict[str, Any]:
    """What report_plot.js reads; lists and numbers only, and texts of tokens with everything hidden made visible.

    Keys:
        view, wide: {x, y}, limits in nats/token and units of the feature: the frontier and its surroundings, and with
            all that ever was a frontier.
        drawn, outside: how many scored prompts are drawn at all, and how many finite ones lie outside of `view`.
        dots: scored prompts by iteration: x, y, iteration, and tokens as places in `texts` (null where they are not
            known).
        texts: of a token: a list of its text, of spaces as their number, and of marks as lists of one text.
        frontier: x, y (null where not finite) and which are the best: overall, fluent.
        moments: the frontiers over time, [iteration, dots].
        landmarks: iterations whose frontiers are drawn beside the last.
        examples: x, y, place in the list of dataset examples, and the percentile's and the maximum's values; null
            without a scan.
        colours: light and dark.
    """
    history = (data.history_feature, data.history_cross_entropy, data.history_iteration)
    moments = frontiers(*history, data.history_ids)
    ever = np.unique([row for moment in moments for row in moment.rows]).astype(np.int64)
    view = _with_examples(data, window(data))
    shown = _shown(data, view, ever)
    place = {row: at for at, row in enumerate(shown.tolist())}
    last = numbers.iterations(data)
    tokens, texts = _texts(data, shown)
    return {
        "view": _limits(view.x, view.y),
        "wide": _limits(_spread(view.x, data.history_cross_entropy[ever]), _spread(view.y, data.history_feature[ever])),
        "drawn": len(shown),
        "outside": view.outside,
        "iterations": last,
        "dots": {
            "x": _numbers(data.history_cross_entropy[shown]),
            "y": _numbers(data.history_feature[shown]),
            "iteration": data.history_iteration[shown].tolist(),
            "tokens": tokens,
        },
        "texts": texts,
        "frontier": {
            "x": _numbers(data.frontier_cross_entropy),
            "y": _numbers(data.frontier_feature),
            "overall": numbers.best_overall(data),
            "fluent": numbers.best_fluent(data),
        },
        "moments": [[moment.iteration, [place[row] for row in moment.rows]] for moment in moments],
        "landmarks": [iteration for iteration in LANDMARKS if iteration < last and _begun(moments, iteration)],
        "examples": _examples(data),
        "colours": {
            name: dataclasses.asdict(palette) | {"examples": EXAMPLES[name]}
            for name, palette in (("light", LIGHT), ("dark", DARK))
        },
    }


def _with_examples(data: ReportData, view: Window) -> Window:
    """The view widened by the dataset examples and their maximum, which the frontier is held against."""
    if data.examples is None:
        return view
    _, cross_entropy, activation = _isolated(data.examples)
    x = _spread(view.x, cross_entropy)
    y = _spread(view.y, np.append(activation, data.examples.maximum))
    finite = np.isfinite(data.history_feature) & np.isfinite(data.history_cross_entropy)
    inside = finite & (data.history_cross_entropy >= x[0]) & (data.history_cross_entropy <= x[1])
    inside &= (data.history_feature >= y[0]) & (data.history_feature <= y[1])
    return Window(x, y, inside, int(finite.sum() - inside.sum()))


def _spread(limits: tuple[float, float], values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The limits, moved apart where values lie beyond them, with a little room around these."""
    values = values[np.isfinite(values)].astype(np.float64)
    low, high = min([limits[0], *values.tolist()]), max([limits[1], *values.tolist()])
    room = 0.04 * (high - low)
    return (low - room if low < limits[0] else low), (high + room if high > limits[1] else high)


def _shown(data: ReportData, view: Window, ever: Int[np.ndarray, " k"]) -> Int[np.ndarray, " n"]:
    """The rows that are drawn, by iteration: some of those inside, some around them, and all that were a frontier."""
    finite = np.isfinite(data.history_feature) & np.isfinite(data.history_cross_entropy)
    inside, around = np.flatnonzero(view.inside), np.flatnonzero(finite & ~view.inside)
    rows = np.unique(np.concatenate([_evenly(inside, MOST_INSIDE), _evenly(around, MOST_OUTSIDE), ever]))
    return rows[np.argsort(data.history_iteration[rows], kind="stable")]


def _evenly(rows: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " k"]:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def _texts(
    data: ReportData, rows: Int[np.ndarray, " n"]
) -> tuple[list[list[int]] | None, list[list[str | int | list[str]]]]:
    if data.history_ids is None or not data.token_texts:
        return None, []
    ids = data.history_ids[rows]
    there = ids >= 0
    known, places = np.unique(ids[there], return_inverse=True)
    texts = [told_text(data.token_texts[int(token)]) for token in known]
    prompts = np.split(places, np.cumsum(there.sum(axis=1))[:-1])
    return [prompt.tolist() for prompt in prompts[: len(rows)]], texts


def told_text(token: str) -> list[str | int | list[str]]:
    """A token's pieces for the script: text as text, spaces as their number, marks as lists of one text."""
    told: list[str | int | list[str]] = []
    for piece in pieces(token):
        if piece.kind == "space":
            told.append(len(piece.text))
        else:
            told.append(piece.text if piece.kind == "text" else [piece.text])
    return told


def _examples(data: ReportData) -> dict[str, Any] | None:
    if data.examples is None:
        return None
    places, cross_entropy, activation = _isolated(data.examples)
    return {
        "place": places,
        "x": _numbers(cross_entropy),
        "y": _numbers(activation),
        "percentile": _number(data.examples.percentiles[99.9]) if 99.9 in data.examples.percentiles else None,
        "maximum": _number(data.examples.maximum),
    }


def _isolated(examples: Examples) -> tuple[list[int], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The examples that were scored alone: their places, cross-entropies and activations."""
    known = [
        (place, row.isolated_cross_entropy, row.isolated_activation)
        for place, row in enumerate(examples.rows)
        if row.isolated_cross_entropy is not None and row.isolated_activation is not None
    ]
    table = np.asarray(known, np.float64).reshape(-1, 3)
    table = table[np.isfinite(table).all(axis=1)]
    return table[:, 0].astype(np.int64).tolist(), table[:, 1], table[:, 2]


def _begun(moments: Sequence[Moment], iteration: int) -> bool:
    return bool(moments) and moments[0].iteration <= iteration


def _limits(x: tuple[float, float], y: tuple[float, float]) -> dict[str, list[float | None]]:
    return {"x": _numbers(np.array(x)), "y": _numbers(np.array(y))}


def _numbers(values: Float[np.ndarray, " n"]) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
