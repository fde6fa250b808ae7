from __future__ import annotations

import numpy as np
from figure_lines import drawn, texts

from epo_jax.report.palette import LIGHT
from epo_jax.report.summary_figure import Bests, summary_figure

ROWS = [
    Bests("L1.N351", (1.25, np.nan), (1.5, 1.75)),
    Bests("logit: dog", (4.5, -0.5), (-3.0, -1.0)),
]


def test_each_feature_has_the_best_of_both_in_each_panel() -> None:
    figure = summary_figure(ROWS, ["overall", "fluent"], "two features", "corpus: books")
    overall, fluent = figure.axes
    assert [sorted(points[:, 1]) for points in drawn(overall) if len(points) == 2] == [[0.0, 0.0], [1.0, 1.0]]
    for axes, place in ((overall, 0), (fluent, 1)):
        marks = {(x, y) for points in drawn(axes) if len(points) == 1 for x, y in points if np.isfinite(x)}
        values = {(v, float(y)) for y, row in enumerate(ROWS) for v in (row.dream[place], row.dataset[place]) if v == v}
        assert marks == values
    assert {"L1.N351", "logit: dog", "overall", "fluent", "two features", "corpus: books"} <= set(texts(figure))


def test_it_is_counted_in_how_many_features_the_dream_is_higher() -> None:
    figure = summary_figure(ROWS, ["overall", "fluent"], "")
    assert texts(figure).count("dream higher in 1 of 2") == 2
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert [line.get_color() for line in lines] == [LIGHT.dataset, LIGHT.dream]


def test_a_feature_without_a_dream_of_the_kind_says_so() -> None:
    shown = [text.get_text() for text in summary_figure(ROWS, ["overall", "fluent"], "").axes[1].texts]
    assert shown == ["no dream"]
