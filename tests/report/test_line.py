from __future__ import annotations

import numpy as np
import pytest
from figure_lines import frontier, nothing

from epo_jax.report.labels import spread
from epo_jax.report.line import Line, limits_of, padded, together


def line(*points: tuple[float, float]) -> Line:
    values = np.array(points, np.float32).reshape(-1, 2)
    return Line("a", values[:, 0], values[:, 1])


def test_lengths_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="disagree"):
        Line("a", np.zeros(2, np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="disagree"):
        Line("a", np.zeros(2, np.float32), np.zeros(2, np.float32), (("x",),))


def test_points_are_finite_and_the_most_fluent_first() -> None:
    found = line((5, 1), (np.nan, 9), (3, 0), (4, np.inf)).points
    np.testing.assert_array_equal(found, [[3, 0], [5, 1]])


def test_the_best_prompt_is_below_a_limit_or_up_to_it() -> None:
    one = line((5, 1), (6, 2), (7, np.nan))
    assert one.best() == 1
    assert one.best(6.0) == 0
    assert one.best(6.0, including=True) == 1
    assert one.best(5.0) is None
    assert np.isnan(one.largest(5.0))
    assert one.largest() == 2


def test_what_lines_reach_together_is_best_for_some_penalty() -> None:
    both = together([line((3, 0), (5, 3), (8, 4)), line((4, 2), (6, 3.1), (9, 4))], "both")
    # (6, 3.1) lies below the line from (5, 3) to (8, 4); (9, 4) is no more than (8, 4).
    np.testing.assert_allclose(both.points, [[3, 0], [4, 2], [5, 3], [8, 4]])
    assert len(together([nothing()], "none").points) == 0


def test_limits_hold_all_points_and_levels() -> None:
    x, y = limits_of([frontier(), line((1, -3))], [20.0, np.nan])
    assert x[0] < 1
    assert x[1] > 9
    assert y[0] < -3
    assert y[1] > 20
    assert padded([]) == (0.0, 1.0)
    low, high = padded([2.0, 2.0])
    assert low < 2 < high


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [0.0, 5.0, 10.0], [9.9, 10.0, 0.1, 9.8], []])
def test_labels_of_levels_are_apart_in_order_and_inside(values: list[float]) -> None:
    places = spread(values, 1.0, 0.0, 10.0)
    order = sorted(range(len(values)), key=lambda index: values[index])
    ordered = [places[index] for index in order]
    assert all(b - a > 0.999 for a, b in zip(ordered, ordered[1:], strict=False))
    assert all(-1e-9 <= place <= 10 + 1e-9 for place in places)
    if values == [0.0, 5.0, 10.0]:
        assert places == values


def test_too_many_labels_are_closer_rather_than_outside() -> None:
    places = spread([5.0] * 21, 1.0, 0.0, 10.0)
    assert min(places) >= -1e-9
    assert max(places) <= 10 + 1e-9
    assert np.diff(sorted(places)).min() == pytest.approx(0.5)
