"""The numbers that searches are judged by, against sums and counts by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging.bootstrap import against
from judging.measures import (
    DEAD_BELOW,
    POINTS,
    WORST,
    best_below,
    curve,
    frontier,
    hypervolume,
    measure,
    repetition,
    rows_to_reach,
)
from judging.options import parse_options
from judging.trace import Trace

import epo_jax
from epo_jax.constraints import Survival
from epo_jax.errors import EpoError
from epo_jax.scoring.scale import Scale

SCALE = Scale(1.0, 2.0)
POINT = st.tuples(st.floats(-5, 20, width=32), st.floats(0, 15, width=32))


def trace(feature: list[float], cross_entropy: list[float], rows: list[int] | None = None) -> Trace:
    count = len(feature)
    return Trace(
        np.arange(4 * count, dtype=np.int32).reshape(count, 4),
        np.array(feature, np.float32),
        np.array(cross_entropy, np.float32),
        np.array(rows or range(1, count + 1), np.int64),
        np.linspace(0, 1, count),
    )


def arrays(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    z, nats = np.array(points, np.float32).reshape(-1, 2).T
    return z, nats


@given(st.lists(POINT, max_size=20))
def test_the_hypervolume_is_the_integral_of_the_best_prompt_up_to_each_cross_entropy(points):
    z, nats = arrays(points)
    edges = np.unique(np.append(np.clip(nats, 0, WORST), [0.0, WORST])).astype(np.float64)
    heights = [max((value for value, at in zip(z, nats, strict=True) if at <= c), default=0.0) for c in edges[:-1]]
    assert hypervolume(z, nats) == pytest.approx(float(np.maximum(heights, 0) @ np.diff(edges)), rel=1e-6, abs=1e-6)


@given(st.lists(POINT, max_size=20))
def test_the_frontier_has_the_prompts_that_no_other_one_beats(points):
    z, nats = arrays(points)
    kept = {(float(z[row]), float(nats[row])) for row in frontier(z, nats)}
    assert len(kept) == len(frontier(z, nats))
    inside = [(float(a), float(b)) for a, b in zip(z, nats, strict=True) if b <= WORST]
    beaten = {p for p in inside for q in inside if q != p and q[0] >= p[0] and q[1] <= p[1]}
    assert kept == set(inside) - beaten


def test_what_is_not_finite_counts_for_nothing():
    z, nats = np.array([np.nan, 2.0, np.inf], np.float32), np.array([1.0, 10.0, np.nan], np.float32)
    assert hypervolume(z, nats) == 4.0
    assert best_below(z, nats, np.inf) == 2.0
    assert best_below(z, nats, 10.0) is None


def test_the_curve_ends_with_the_hypervolume_and_never_falls():
    rng = np.random.default_rng(0)
    made = trace(
        rng.normal(size=50).tolist(), rng.uniform(2, 14, 50).tolist(), np.sort(rng.integers(900, size=50)).tolist()
    )
    rows, reached = curve(made, SCALE, 1000)
    assert len(rows) == POINTS
    assert rows[-1] == 1000
    assert (np.diff(reached) >= 0).all()
    assert reached[-1] == hypervolume(SCALE.of(made.feature), made.cross_entropy)
    early = made.until(int(rows[9]))
    assert reached[9] == hypervolume(SCALE.of(early.feature), early.cross_entropy)


def test_rows_to_a_hypervolume_are_between_the_points_around_it():
    rows, reached = np.array([10, 20, 30, 40]), np.array([0.0, 2.0, 4.0, 4.0])
    assert rows_to_reach(3.0, rows, reached) == 25.0
    assert rows_to_reach(4.0, rows, reached) == 30.0
    assert rows_to_reach(0.0, rows, reached) == 10.0
    assert rows_to_reach(4.1, rows, reached) is None


def never(prompts: np.ndarray) -> np.ndarray:
    return np.zeros(len(prompts), np.bool_)


def always(prompts: np.ndarray) -> np.ndarray:
    return np.ones(len(prompts), np.bool_)


def test_measures_of_a_search_with_and_without_fluent_prompts(tiny):
    survival = Survival(tiny.tokenizer)
    found = measure(trace([9.0, 5.0, 3.0], [8.0, 5.0, 4.5], [4, 9, 12]), SCALE, survival)
    assert (found.prompts, found.rows, found.seconds) == (3, 12, 1.0)
    assert (found.best, found.best_below_6, found.best_below_4, found.dead) == (4.0, 2.0, None, False)
    assert found.hypervolume == 0.5 * 1.0 + 3.0 * 2.0 + 4.0 * 4.0
    assert found.repetition == 0.0
    # Prompts that come back as other tokens count no more in `surviving`.
    nobody, everybody = SimpleNamespace(of=never, looked_up=never), SimpleNamespace(of=always, looked_up=always)
    made = trace([9.0, 5.0, 3.0], [8.0, 5.0, 4.5], [4, 9, 12])
    assert measure(made, SCALE, nobody).surviving == 0.0
    assert measure(made, SCALE, everybody).surviving == found.hypervolume
    dead = measure(trace([1.0 + 2 * DEAD_BELOW - 0.1], [13.0]), SCALE, survival)
    assert dead.dead
    assert (dead.hypervolume, dead.repetition, dead.survival) == (0.0, None, None)


def test_repetition_is_the_share_of_tokens_that_were_there_before():
    assert repetition(np.array([[1, 1, 1, 1], [1, 2, 3, 4]], np.int32)) == pytest.approx((0.75 + 0.0) / 2)
    # What stands behind the end of a shorter prompt is no token.
    assert repetition(np.array([[1, 1, -1, -1], [1, 2, 3, -1]], np.int32)) == pytest.approx((0.5 + 0.0) / 2)


def test_survival_is_the_share_of_texts_that_give_the_same_tokens(tiny):
    ids = tiny.tokenizer.encode("the fox", add_special_tokens=False)
    apart = [token for letter in "the fox" for token in tiny.tokenizer.encode(letter, add_special_tokens=False)]
    length = min(len(ids), len(apart))
    prompts = np.array([ids[:length], apart[:length]], np.int32)
    assert len(ids) < len(apart), "otherwise both are the same"
    # The more fluent one is weaker, so that both are on the frontier.
    values, nats = np.array([[2.0, 3.0], [3.0, 4.0]], np.float32)
    made = Trace(prompts, values, nats, np.array([1, 2]), np.zeros(2))
    assert measure(made, Scale(), Survival(tiny.tokenizer)).survival == 0.5


def test_a_trace_is_read_as_it_was_written_and_cut_where_the_rows_end(tmp_path):
    made = trace([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [5, 10, 15])
    made.save(tmp_path / "trace.npz")
    again = Trace.load(tmp_path / "trace.npz")
    assert all(np.array_equal(getattr(again, name), value) for name, value in vars(made).items())
    assert [len(made.until(rows)) for rows in (4, 5, 14, 15)] == [0, 1, 2, 3]
    (tmp_path / "other.npz").write_text("no archive")
    with pytest.raises(EpoError, match="is no trace"):
        Trace.load(tmp_path / "other.npz")


def test_equal_methods_are_told_equal():
    pairs = {(name, seed): (3.0 + seed, 3.0 + seed) for name in "abc" for seed in range(2)}
    found = against(pairs, pairs)
    assert (found.pairs, found.features) == (6, 3)
    assert (found.ratio.low, found.ratio.value, found.ratio.high) == (1.0, 1.0, 1.0)
    assert (found.won.value, found.rows.value) == (0.5, 1.0)


def test_a_feature_is_won_by_its_mean_over_seeds_and_pairs_are_told_by_their_median():
    pairs = {("a", 0): (1.0, 2.0), ("a", 1): (9.0, 2.0), ("b", 0): (1.0, 4.0)}
    rows = {("a", 0): (math.inf, 5.0), ("a", 1): (10.0, 5.0), ("b", 0): (math.inf, 5.0)}
    found = against(pairs, rows)
    assert found.ratio.value == 0.5
    assert found.won.value == 0.5
    assert math.isinf(found.rows.value)
    assert found.rows.low == 2.0
    assert against({}, {}) is None


def test_the_interval_has_what_other_features_would_give_and_seeds_alone_are_not_enough():
    rng = np.random.default_rng(0)
    own = np.exp(rng.normal(0.3, 0.5, 16))
    # Seeds of a feature agree: another one tells nothing new.
    pairs = {(f"f{number}", seed): (value, 1.0) for number, value in enumerate(own.tolist()) for seed in range(5)}
    once = {key: value for key, value in pairs.items() if key[1] == 0}
    many, few = against(pairs, pairs).ratio, against(once, once).ratio
    assert many.low < np.median(own) < many.high
    assert (many.low, many.high) == pytest.approx((few.low, few.high), rel=0.1)
    assert against(pairs, pairs) == against(pairs, pairs)


def test_options_are_settings_of_a_search():
    given_ = "top_k=64;lambda_min=0.2;search=paper;restart_every=0"
    assert parse_options(given_) == {"top_k": 64, "lambda_min": 0.2, "search": "paper", "restart_every": 0}
    assert parse_options("") == {}
    epo_jax.EPOConfig(**parse_options(given_))
    guided = parse_options("search=best;operators=model_swap:1,deletion:0.5;archive=False;adaptation=None")
    assert guided == {
        "search": "best",
        "operators": "model_swap:1,deletion:0.5",
        "archive": False,
        "adaptation": None,
    }
    epo_jax.EPOConfig(**guided)
    for wrong in ("top_k", "topk=3", "top_k=3;top_k=4"):
        with pytest.raises(EpoError, match="--search_options"):
            parse_options(wrong)
