from __future__ import annotations

import numpy as np
from figure_lines import frontier, is_drawn, texts

from epo_jax.report import evolution_figure
from epo_jax.report.palette import LIGHT

LINES = [frontier(f"iteration {at}", top, start=start) for at, top, start in ((20, 2.5, 6), (100, 8, 4), (300, 9.9, 3))]


def test_each_iteration_is_a_line_with_its_own_look_and_its_maximum_beside_it() -> None:
    figure = evolution_figure(LINES, "L10.N5")
    axes = figure.axes[0]
    for line in LINES:
        assert is_drawn(axes, line.points)
    main = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    assert len({(line.get_marker(), line.get_linestyle(), line.get_color()) for line in main}) == 3
    assert main[-1].get_color() == LIGHT.dream
    assert {"iteration 20", "iteration 100", "iteration 300", "2.50", "8.00", "9.90"} <= set(texts(figure))


def test_a_thin_line_leads_from_each_end_to_the_right_edge() -> None:
    axes = evolution_figure(LINES, "L10.N5").axes[0]
    right = axes.get_xlim()[1]
    for line in LINES:
        end = line.points[-1]
        assert is_drawn(axes, np.array([end, (right, end[1])]))
