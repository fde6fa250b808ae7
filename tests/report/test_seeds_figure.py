from __future__ import annotations

import numpy as np
from figure_lines import frontier, is_drawn, nothing, texts

from epo_jax.report import seeds_figure
from epo_jax.report.line import together
from epo_jax.report.seeds_figure import median_of, seeds_sentence

LINES = [frontier(f"seed {top}", top, points) for top, points in ((2.4, 5), (7.3, 9), (10.2, 7))]


def test_every_frontier_their_median_and_what_they_reach_together_are_drawn() -> None:
    axes = seeds_figure(LINES, "L10.N5").axes[0]
    assert len(axes.lines) == 5
    for line in (*LINES, together(LINES, "")):
        assert is_drawn(axes, line.points)
    assert is_drawn(axes, np.stack(median_of(LINES), axis=1))


def test_best_median_and_worst_are_told_at_the_heights_of_their_maxima() -> None:
    figure = seeds_figure(LINES, "L10.N5")
    shown = {text.get_text(): text.get_position()[1] for text in figure.texts}
    assert {"best 10.2", "median 7.3", "worst 2.4", "3 seeds", "L10.N5"} <= set(shown)
    low, high = figure.axes[0].get_ylim()
    box = figure.axes[0].get_position()
    bottom, tall = box.y0 * figure.get_figheight(), box.height * figure.get_figheight()
    for name, value in (("best 10.2", 10.2), ("median 7.3", 7.3), ("worst 2.4", 2.4)):
        assert abs(shown[name] + 0.04 - (bottom + (value - low) / (high - low) * tall)) < 0.1


def test_the_median_is_of_the_frontiers_that_have_begun() -> None:
    early, late = frontier(top=4.0, start=3.0), frontier(top=8.0, start=5.0)
    grid, middle = median_of([early, early, late])
    assert grid[0] == 3.0
    np.testing.assert_allclose(middle[:3], early.points[:3, 1])
    grid, _ = median_of([early, late])
    assert grid[0] == 5.0


def test_the_sentence_tells_the_range_below_a_limit_and_who_has_nothing_there() -> None:
    assert seeds_sentence(LINES, "L10.N5") == "3 seeds of L10.N5: maximum from 2.4 to 10.2, 7.3 in the median."
    few = [frontier(top=9.0, start=3.0), frontier(top=9.0, start=6.0)]
    told = seeds_sentence(few, "L10.N5", 5.0)
    assert "below 5 nats/token" in told
    assert "(1 without such a prompt)" in told
    assert seeds_sentence(few, "L10.N5", 2.0) == "None of 2 seeds has a prompt of L10.N5 below 2 nats/token."


def test_one_seed_is_the_best_of_all() -> None:
    shown = texts(seeds_figure([frontier(), nothing()], "L10.N5"))
    assert "best 9.90" in shown
    assert not any("worst" in text for text in shown)
