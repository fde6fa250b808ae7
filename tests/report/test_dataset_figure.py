from __future__ import annotations

import numpy as np
from figure_lines import examples, frontier, is_drawn, nothing, texts

from epo_jax.report import dataset_figure
from epo_jax.report.dataset_figure import best_prompts
from epo_jax.report.dataset_pages import Panel, dataset_pages
from epo_jax.report.line import Line

TOLD = {"percentile": 1.6, "maximum": 7.25}


def test_dreams_examples_percentile_and_maximum_are_drawn() -> None:
    figure = dataset_figure([frontier(), frontier(top=4.0)], examples(), "L10.N5", **TOLD)
    axes = figure.axes[0]
    for line in (frontier(), frontier(top=4.0), examples()):
        assert is_drawn(axes, line.points)
    levels = [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert levels == [1.6, 7.25]
    shown = texts(figure)
    assert {"99.9% 1.60", "max 7.25", "2 dreams", "dataset examples"} <= set(shown)


def test_an_arrow_tells_how_much_higher_the_dream_is_that_is_as_fluent() -> None:
    found = Line("dataset", np.array([4.0, 5.0], np.float32), np.array([3.0, 2.0], np.float32))
    dream = Line("dream", np.array([3.5, 4.0, 6.0], np.float32), np.array([1.0, 4.25, 9.0], np.float32))
    assert "+1.25" in texts(dataset_figure([dream], found, "", **TOLD))
    weaker = Line("dream", np.array([3.5, 6.0], np.float32), np.array([1.0, 9.0], np.float32))
    assert "−2.00" in texts(dataset_figure([weaker], found, "", **TOLD))
    late = Line("dream", np.array([4.5], np.float32), np.array([9.0], np.float32))
    assert not any(text.startswith(("+", "−")) for text in texts(dataset_figure([late], found, "", **TOLD)))


def test_the_best_prompts_are_listed_in_words_with_their_numbers() -> None:
    dream, found = frontier(), examples()
    shown = texts(dataset_figure([dream], found, "", **TOLD))
    assert "best of the dataset: 6.00 at 4.00 nats/token" in shown
    assert "best dream: 9.90 at 9.00 nats/token" in shown
    assert any(text.startswith("best dream as fluent as that: ") for text in shown)
    assert shown.count("·example") == 3
    assert "%).⏎" in shown
    for letter in "abc":
        assert shown.count(letter) == 2


def test_lines_without_texts_are_not_listed() -> None:
    dream = Line("dream", frontier().cross_entropy, frontier().feature)
    found = Line("dataset", examples().cross_entropy, examples().feature)
    shown = texts(dataset_figure([dream], found, "", **TOLD))
    assert not any(text.startswith("best") for text in shown)


def test_the_best_dream_that_is_as_fluent_may_be_the_best_of_all() -> None:
    found = Line("dataset", np.array([20.0], np.float32), np.array([3.0], np.float32))
    bests = best_prompts([frontier()], found)
    assert [best.what for best in bests] == ["best of the dataset", "best dream as fluent as that"]
    assert best_prompts([nothing()], nothing()) == []


def test_panels_share_the_scale_of_cross_entropy_and_have_their_own_of_the_feature() -> None:
    panels = [
        Panel("L1.N1", [frontier()], examples(), 1.6, 7.0),
        Panel("L2.N2", [frontier(top=90.0, end=12.0)], examples(top=60.0), 16.0, 70.0),
    ]
    page = dataset_pages(panels, "two")[0]
    assert page.axes[0].get_xlim() == page.axes[1].get_xlim()
    assert page.axes[0].get_ylim()[1] < 20 < page.axes[1].get_ylim()[1]
    assert {"L1.N1", "L2.N2", "two"} <= set(texts(page))
    assert is_drawn(page.axes[1], panels[1].dreams[0].points)
