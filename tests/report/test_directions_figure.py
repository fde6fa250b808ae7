from __future__ import annotations

from figure_lines import examples, frontier, is_drawn, texts

from epo_jax.report import directions_figure


def test_dreams_examples_and_random_prompts_are_drawn_over_one_another_in_this_order() -> None:
    dreams, found, random = [frontier(), frontier(top=5.0)], [examples()], examples(20, 2.0)
    figure = directions_figure(dreams, found, random, "block 12")
    axes = figure.axes[0]
    for line in (*dreams, *found, random):
        assert is_drawn(axes, line.points)
    order = {tuple(line.get_ydata()): line.get_zorder() for line in axes.lines}
    heights = [order[tuple(line.points[:, 1])] for line in (random, found[0], dreams[0])]
    assert heights == sorted(set(heights))
    assert {"dreams", "dataset examples", "random prompts", "2 vectors", "block 12"} <= set(texts(figure))
    assert axes.get_ylabel() == "z-score"
