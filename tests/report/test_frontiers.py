from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from epo_jax.dream.frontier import frontier_rows
from epo_jax.dream.history import History
from epo_jax.report.frontiers import frontiers

# Few values, so that there are ties, repeated points and points on one line.
VALUES = st.sampled_from([-1.0, 0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, np.nan, np.inf, -np.inf])


@st.composite
def histories(draw: st.DrawFn) -> History:
    size = draw(st.integers(0, 24))
    column = arrays.arrays(np.float32, size, elements=VALUES)
    return History(
        draw(arrays.arrays(np.int32, (size, 2), elements=st.integers(0, 2))),
        draw(column),
        draw(column),
        np.sort(draw(arrays.arrays(np.int32, size, elements=st.integers(0, 5)))),
    )


def upto(history: History, iteration: int) -> History:
    return History(**{name: values[history.iteration <= iteration] for name, values in vars(history).items()})


@settings(max_examples=300, deadline=None)
@given(histories())
def test_each_frontier_is_the_one_of_all_prompts_so_far(history: History) -> None:
    moments = frontiers(history.feature, history.cross_entropy, history.iteration, history.ids)
    for iteration in range(6):
        expected = tuple(frontier_rows(upto(history, iteration)).tolist())
        so_far = [moment for moment in moments if moment.iteration <= iteration]
        assert (so_far[-1].rows if so_far else ()) == expected


def test_a_frontier_is_told_only_when_it_changes() -> None:
    feature = np.array([1.0, 0.5, 2.0, 0.1], np.float32)
    cross_entropy = np.array([3.0, 4.0, 2.0, 9.0], np.float32)
    moments = frontiers(feature, cross_entropy, np.array([0, 1, 2, 3]))
    assert [(moment.iteration, moment.rows) for moment in moments] == [(0, (0,)), (2, (2,))]


def test_without_tokens_prompts_of_the_same_values_count_once() -> None:
    same = np.ones(3, np.float32)
    assert frontiers(same, same, np.zeros(3, np.int32))[0].rows == (0,)
    ids = np.array([[1], [2], [1]], np.int32)
    assert frontiers(same, same, np.zeros(3, np.int32), ids)[0].rows == (0, 1)
