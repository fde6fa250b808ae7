from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from epo_jax.dream.frontier import Frontier, frontier_rows, merged
from epo_jax.dream.history import History

# Few distinct values, so that ties, duplicates and points on one line are common.
COARSE = st.integers(-4, 4).map(float)
FINE = st.floats(-50, 50, width=32)


def history_of(points: list[tuple[float, float]], prompts: list[int] | None = None) -> History:
    prompts = list(range(len(points))) if prompts is None else prompts
    return History(
        ids=np.asarray(prompts, np.int32).reshape(-1, 1),
        feature=np.asarray([y for _, y in points], np.float32),
        cross_entropy=np.asarray([x for x, _ in points], np.float32),
        iteration=np.arange(len(points), dtype=np.int32),
    )


def best_for_some_penalty(points: list[tuple[float, float]]) -> set[int]:
    """By definition, exactly: rows that no row beats under some penalty, ties decided by the other value."""
    exact = [(Fraction(float(np.float32(x))), Fraction(float(np.float32(y)))) for x, y in points]
    crossings = {(b[1] - a[1]) / (b[0] - a[0]) for a in exact for b in exact if b[0] > a[0] and b[1] > a[1]}
    ordered = sorted({Fraction(0), *crossings})
    between = [(a + b) / 2 for a, b in itertools.pairwise(ordered)]
    penalties = [*ordered, *between, ordered[-1] + 1]
    found = set()
    for penalty in penalties:
        values = [y - penalty * x for x, y in exact]
        found |= {row for row, value in enumerate(values) if value == max(values)}
    dominated = {
        row for row, (x, y) in enumerate(exact) if any(a <= x and b >= y and (a, b) != (x, y) for a, b in exact)
    }
    return found - dominated


@settings(max_examples=300, deadline=None)
@given(st.one_of(*(st.lists(st.tuples(value, value), min_size=1, max_size=14) for value in (COARSE, FINE))))
def test_the_frontier_holds_exactly_the_prompts_that_are_best_for_some_penalty(points):
    assert set(frontier_rows(history_of(points)).tolist()) == best_for_some_penalty(points)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(COARSE, COARSE, st.integers(0, 3)), min_size=1, max_size=12))
def test_it_ascends_in_both_values_and_holds_each_prompt_once(rows):
    # One prompt has one score, as in a run.
    scores = {prompt: (x, y) for x, y, prompt in rows}
    history = history_of([scores[prompt] for *_, prompt in rows], [prompt for *_, prompt in rows])
    found = frontier_rows(history)
    assert len({history.ids[row].tobytes() for row in found}) == len(found)
    assert (np.diff(history.cross_entropy[found]) >= 0).all()
    assert (np.diff(history.feature[found]) >= 0).all()
    first = {history.ids[row].tobytes(): row for row in range(len(history))[::-1]}
    assert all(first[history.ids[row].tobytes()] == row for row in found), "the first time that it was scored"


def test_a_feature_that_never_fires_has_a_frontier_of_one_prompt():
    assert frontier_rows(history_of([(5, 0), (3, 0), (4, 0)])).tolist() == [1]


def test_what_is_not_finite_is_left_out():
    assert frontier_rows(history_of([(np.nan, 9), (1, np.inf), (2, 1), (-np.inf, 0)])).tolist() == [2]
    assert len(frontier_rows(history_of([(np.nan, 1)]))) == 0


def test_merged_frontiers_are_the_frontier_of_all_that_was_scored():
    rng = np.random.default_rng(0)
    points = [tuple(row) for row in rng.normal(size=(200, 2)).astype(np.float32)]
    parts = [history_of(points[:90], list(range(90))), history_of(points[90:], list(range(90, 200)))]

    def frontier(history: History) -> Frontier:
        rows = frontier_rows(history)
        text = tuple(str(prompt[0]) for prompt in history.ids[rows])
        return Frontier(
            history.ids[rows],
            text,
            tuple((t,) for t in text),
            history.feature[rows],
            history.cross_entropy[rows],
            history.iteration[rows],
        )

    together = merged([frontier(part) for part in parts])
    assert together.text == frontier(history_of(points)).text
    assert list(together.to_pandas().columns[:4]) == ["feature", "cross_entropy", "perplexity", "iteration"]
