from __future__ import annotations

import numpy as np
import pytest

from epo_jax.report.data import (
    best_fluent,
    best_overall,
    format_cross_entropy,
    format_feature,
    format_perplexity,
    iterations,
)


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_lengths_that_disagree_are_refused(report) -> None:
    with pytest.raises(ValueError, match="frontier"):
        report(points=3, frontier_tokens=(("a",),))


def test_best_prompts_are_found(report) -> None:
    data = report()
    assert best_overall(data) == 11
    fluent = best_fluent(data)
    assert fluent is not None
    assert data.frontier_cross_entropy[fluent] < 6 <= data.frontier_cross_entropy[fluent + 1]
    assert best_fluent(report(frontier_cross_entropy=np.full(12, 7, np.float32))) is None
    assert best_overall(report(frontier_feature=np.full(12, np.nan, np.float32))) is None


def test_iterations_of_an_empty_history_are_zero(report) -> None:
    assert iterations(report(history=0)) == 0
    assert iterations(report()) == 14


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.5, 9.876), ("0.50", "9.88")),
        ((-12.34, 1.0), ("\N{MINUS SIGN}12.3", "1.0")),
        ((0.00123, 0.0004), ("0.00123", "0.00040")),
        ((1234.5, 2.0), ("1,234", "2")),
        ((3e9,), ("3e+09",)),
        ((float("nan"), 2.0), ("nan", "2.00")),
        ((0.0,), ("0.00",)),
    ],
)
def test_features_share_their_decimals(values, shown) -> None:
    assert format_feature(array(*values)) == shown


def test_cross_entropy_and_perplexity_are_readable() -> None:
    assert format_cross_entropy(array(3.0, 12.345)) == ("3.00", "12.35")
    assert format_perplexity(array(0.0, 0.55, 4.0, 7.118, 30.0, 1e4, np.nan)) == (
        "1.00", "1.73", "54.6", "1,234", "1.1e+13", "inf", "nan",
    )  # fmt: skip
