from __future__ import annotations

import json

import numpy as np
import pytest
from html_page import HOSTILE
from report_examples import EXAMPLES

from epo_jax.report.figures import window
from epo_jax.report.plot_data import MOST_INSIDE, MOST_OUTSIDE, plot_data


def with_prompts(report, **changes):
    """A run whose scored prompts are known, made of hostile tokens."""
    base = report(**changes)
    ids = np.random.default_rng(0).integers(0, len(HOSTILE), (len(base.history_feature), 3)).astype(np.int32)
    return report(**changes, history_ids=ids, token_texts=dict(enumerate(HOSTILE)))


def test_each_dot_has_its_prompt(report) -> None:
    data = with_prompts(report, history=600)
    told = plot_data(data)
    dots = told["dots"]
    assert told["drawn"] == len(dots["x"]) == 600
    at = 17
    row = int(np.flatnonzero(np.isclose(data.history_cross_entropy, dots["x"][at], rtol=1e-5))[0])
    texts = [told["texts"][token] for token in dots["tokens"][at]]
    flat = ["".join(" " * p if isinstance(p, int) else p if isinstance(p, str) else p[0] for p in one) for one in texts]
    shown = [HOSTILE[token] for token in data.history_ids[row]]
    for known, found in zip(shown, flat, strict=True):
        assert found == known or not known.isprintable()


def test_without_tokens_dots_have_numbers_only(report) -> None:
    told = plot_data(report(history=600))
    assert told["dots"]["tokens"] is None
    assert told["texts"] == []


def test_many_dots_are_thinned_and_what_was_a_frontier_stays(report) -> None:
    data = report(history=30_000)
    told = plot_data(data)
    most = MOST_INSIDE + MOST_OUTSIDE
    assert most <= told["drawn"] < most + 300
    assert told["outside"] == window(data).outside
    for _, dots in told["moments"]:
        assert all(0 <= at < told["drawn"] for at in dots)
    assert told["dots"]["iteration"] == sorted(told["dots"]["iteration"])


def test_the_last_moment_is_the_frontier_of_the_history(report) -> None:
    told = plot_data(report(history=3840))
    _, dots = told["moments"][-1]
    x, y = ([told["dots"][name][at] for at in dots] for name in "xy")
    assert x == sorted(x)
    assert y == sorted(y)
    assert max(y) == max(told["dots"]["y"])


def test_landmarks_are_the_papers_iterations_before_the_last(report) -> None:
    iteration = np.minimum(np.arange(3840) // 30, 110).astype(np.int32)
    assert plot_data(report(history_iteration=iteration))["landmarks"] == [20, 40, 100]
    assert plot_data(report(history=512))["landmarks"] == []


def test_the_view_holds_the_dataset_examples_and_their_maximum(report) -> None:
    told = plot_data(report(examples=EXAMPLES))
    assert told["examples"]["place"] == [0, 2]
    assert told["view"]["y"][1] > EXAMPLES.maximum
    assert told["view"]["x"][0] < min(told["examples"]["x"])
    assert told["examples"]["percentile"] == 4.5
    assert plot_data(report())["examples"] is None


def test_all_that_ever_was_a_frontier_is_in_the_wide_view(report) -> None:
    told = plot_data(report())
    for _, dots in told["moments"]:
        for at in dots:
            assert told["wide"]["x"][0] <= told["dots"]["x"][at] <= told["wide"]["x"][1]
            assert told["wide"]["y"][0] <= told["dots"]["y"][at] <= told["wide"]["y"][1]


@pytest.mark.parametrize(("points", "history"), [(0, 0), (1, 0), (1, 1), (0, 5)])
def test_extremes_are_json(report, points: int, history: int) -> None:
    json.dumps(plot_data(report(points=points, history=history)), allow_nan=False)


def test_what_is_not_finite_is_null_or_left_out(report) -> None:
    nothing = np.full(4, np.nan, np.float32)
    told = plot_data(
        report(points=2, history=4, history_feature=nothing, frontier_feature=np.array([np.nan, np.inf], np.float32))
    )
    json.dumps(told, allow_nan=False)
    assert told["frontier"]["y"] == [None, None]
    assert told["drawn"] == 0
