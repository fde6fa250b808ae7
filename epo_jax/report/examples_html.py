"""Dataset examples on a page."""

from __future__ import annotations

import numpy as np

from epo_jax.report.data import format_cross_entropy, format_feature
from epo_jax.report.examples_data import Example, Examples
from epo_jax.report.tokens import one_line

MOST_EXAMPLES = 8
"""Examples, and dreams beside them, that are seen at once."""
MOST_BEFORE = 24
"""Tokens of the context that are shown before an example."""


def examples_entry(examples: Examples) -> dict[str, object]:
    """What the template needs of dataset examples."""
    rows = [_row(place, row) for place, row in enumerate(examples.rows)]
    return {
        "corpus": one_line(examples.corpus),
        "tokens": f"{examples.tokens:,}",
        "maximum": _feature(examples.maximum),
        "percentile": _feature(examples.percentiles[99.9]) if 99.9 in examples.percentiles else "",
        "sentence": examples.sentence,
        "first": rows[:MOST_EXAMPLES],
        "rest": rows[MOST_EXAMPLES:],
    }


def _row(place: int, row: Example) -> dict[str, object]:
    return {
        "place": place,
        "number": place + 1,
        "document": one_line(row.document),
        "before": "".join(row.before[-MOST_BEFORE:]),
        "cut": len(row.before) > MOST_BEFORE,
        "tokens": row.tokens,
        "activation": _feature(row.activation),
        "isolated": "" if row.isolated_activation is None else _feature(row.isolated_activation),
        "cross_entropy": ""
        if row.isolated_cross_entropy is None
        else format_cross_entropy(np.array([row.isolated_cross_entropy]))[0],
    }


def _feature(value: float) -> str:
    return format_feature(np.array([value], np.float64))[0]
