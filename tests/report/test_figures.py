from __future__ import annotations

import dataclasses
import io
import time
import warnings

import numpy as np
import pytest
from matplotlib import image

from epo_jax.report.figures import frontier_figure, frontier_png, window, write_frontier_png
from epo_jax.report.palette import DARK

HOSTILE = ("$x^2$", "$\\frac{", "\u0634\u0627", "中文", "🙂", "\x00", "\u202e", "\n", "%).", "_a^b", " ", "")


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def texts(figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def test_png_is_valid_and_of_reasonable_size(report, tmp_path) -> None:
    write_frontier_png(report(), tmp_path / "frontier.png")
    data = (tmp_path / "frontier.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert 20_000 < len(data) < 2_000_000
    height, width, _ = image.imread(io.BytesIO(data)).shape
    assert 1200 < width < 2400
    assert 800 < height < 2400


def test_same_data_give_the_same_bytes(report) -> None:
    assert frontier_png(report(history=100), dpi=60) == frontier_png(report(history=100), dpi=60)


def test_title_names_feature_and_model(report) -> None:
    assert "logit: $dog$ in EleutherAI/pythia-12b" in texts(frontier_figure(report(feature="logit: $dog$")))


def test_every_prompt_of_a_small_frontier_is_listed_with_its_numbers(report) -> None:
    shown = texts(frontier_figure(report()))
    for number in range(1, 13):
        assert shown.count(str(number)) == 2, "once in the plot and once in the list"
    assert "9.90" in shown
    assert "8.90" in shown
    assert "·following" in shown


def test_large_frontiers_are_labelled_sparsely(report) -> None:
    figure = frontier_figure(report(points=60), panel=False)
    assert len(figure.axes[0].texts) == 12
    assert "60" in texts(figure)


def test_text_that_the_font_lacks_is_escaped(report) -> None:
    data = report(points=1, frontier_tokens=(HOSTILE,), feature="logit: 中$", model="\u202emodel")
    shown = texts(frontier_figure(data))
    assert frontier_png(data, dpi=60)
    assert {"$x^2$", "$\\frac{", "\\u4e2d\\u6587", "\\U0001f642", "\\x00", "\\u202e", "⏎", "·", "∅"} <= set(shown)
    assert "\\u0634\\u0627" in shown
    assert "logit: \\u4e2d$ in \\u202emodel" in shown


@pytest.mark.parametrize("length", [1, 12, 400])
def test_text_stays_inside_the_picture(report, length: int) -> None:
    tokens = ((" " + "wide" * 9, "x")[: min(length, 2)] * max(length // 2, 1), ("y" * 500,))
    data = report(points=2, frontier_tokens=tokens, feature="sum:" + "W" * 300)
    figure = frontier_figure(data)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts)):
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width, text.get_text()
        assert box.y0 >= 0
        assert box.y1 <= height


@pytest.mark.parametrize("width", [10.5, 4.2])
def test_axes_stay_inside_the_picture(report, width: float) -> None:
    data = report(history=2000, frontier_feature=np.linspace(-2e4, -1e4, 12, dtype=np.float32))
    data = dataclasses.replace(data, history_iteration=data.history_iteration * 1400)
    figure = frontier_figure(data, width=width, height=4.2, title=False, panel=False)
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= 4.2


def test_random_starts_do_not_squeeze_the_picture(report) -> None:
    data = report()
    view = window(data)
    assert view.x[0] < 3.1
    assert 8.9 < view.x[1] < 11
    assert view.outside == np.count_nonzero(~view.inside) > 0


def test_non_finite_history_is_dropped(report) -> None:
    data = report(history=600)
    feature, cross_entropy = data.history_feature.copy(), data.history_cross_entropy.copy()
    feature[:3], cross_entropy[3:6] = (np.nan, np.inf, -np.inf), (np.nan, np.inf, -np.inf)
    data = report(history=600, history_feature=feature, history_cross_entropy=cross_entropy)
    assert not window(data).inside[:6].any()
    assert np.isfinite(frontier_figure(data).axes[0].axis()).all()
    assert frontier_png(data, dpi=60)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e30])
@pytest.mark.parametrize(("points", "history"), [(1, 0), (1, 500), (0, 0), (0, 10), (2, 1)])
def test_extremes_can_be_drawn(report, points: int, history: int, scale: float) -> None:
    base = report(points=points, history=history)
    data = report(
        points=points,
        history=history,
        frontier_feature=base.frontier_feature * np.float32(scale),
        history_feature=base.history_feature * np.float32(scale),
    )
    assert frontier_png(data, dpi=50, palette=DARK)


@pytest.mark.parametrize("cross_entropy", [0.0, 60.0, 1e6])
def test_any_cross_entropy_can_be_drawn(report, cross_entropy: float) -> None:
    assert frontier_png(report(points=1, frontier_cross_entropy=np.array([cross_entropy], np.float32)), dpi=50)


def test_frontier_values_that_are_not_finite_are_not_drawn(report) -> None:
    data = report(points=3, frontier_feature=np.array([1.0, np.nan, 3.0], np.float32))
    assert len(frontier_figure(data).axes[0].lines[0].get_xdata()) == 2
    assert frontier_png(data, dpi=50)


def test_a_long_history_is_drawn_in_seconds(report) -> None:
    data = report(points=40, history=80_000)
    start = time.perf_counter()
    frontier_png(data)
    assert time.perf_counter() - start < 5
