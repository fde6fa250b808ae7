"""Runs as lines of pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import epo_jax
from epo_jax import EPOConfig, EpoError
from epo_jax.corpus import DatasetExamples
from epo_jax.dream.frontier import frontier_rows
from epo_jax.dream.history import History
from epo_jax.dream.lines import evolution_lines, examples_line, frontier_line
from epo_jax.report.line import together


def history() -> History:
    """Ten iterations of four prompts; the best so far comes last in iteration 3 and first in iteration 4."""
    random = np.random.default_rng(0)
    feature = random.normal(size=40).astype(np.float32)
    feature[15:17] = 9.0, 20.0
    return History(
        ids=random.integers(0, 50, (40, 4)).astype(np.int32),
        feature=feature,
        cross_entropy=random.uniform(3, 9, 40).astype(np.float32),
        iteration=np.repeat(np.arange(10, dtype=np.int32), 4),
    )


def test_a_frontier_at_an_iteration_is_of_what_was_scored_by_then() -> None:
    whole = history()
    early, late = evolution_lines(whole, [3, 9])
    first = History(*(values[:16] for values in vars(whole).values()))
    rows = frontier_rows(first)
    assert early.feature.max() == 9.0
    np.testing.assert_array_equal(early.feature, first.feature[rows])
    np.testing.assert_array_equal(early.cross_entropy, first.cross_entropy[rows])
    np.testing.assert_array_equal(late.feature, whole.feature[frontier_rows(whole)])
    assert (early.name, late.name) == ("iteration 3", "iteration 9")
    with pytest.raises(EpoError, match="--iterations=10: the run has iterations 0 to 9"):
        evolution_lines(whole, [10])


def test_what_seeds_reach_together_is_what_merged_frontiers_have(tiny) -> None:
    config = EPOConfig(iterations=5, population=3, children=4, length=5, top_k=40)
    results = epo_jax.dream(tiny, "L1.N5", config, seed=[0, 1, 2])
    merged = epo_jax.merge_frontiers(results)
    lines = [frontier_line(result.frontier, "a seed") for result in results]
    points = together(lines, "all").points
    # Points on a straight line between others are on the frontier, and make no difference to the line.
    assert {tuple(p) for p in points} <= set(zip(merged.cross_entropy, merged.feature, strict=True))
    np.testing.assert_allclose(np.interp(merged.cross_entropy, *points.T), merged.feature, atol=1e-5)
    assert lines[0].tokens == results[0].frontier.tokens


def test_examples_are_their_isolated_prompts_in_words(tiny) -> None:
    ids = np.array([[7, 8, 9], [10, 11, 12]], np.int32)
    found = DatasetExamples(
        feature="L1.N2",
        activation=np.array([9, 8], np.float32),
        document=["a", "b"],
        place=np.arange(2),
        context=[np.arange(5, dtype=np.int32)] * 2,
        position=np.array([4, 4], np.int32),
        ids=ids,
        isolated_activation=np.array([2, 5], np.float32),
        isolated_cross_entropy=np.array([3, 6.5], np.float32),
        percentiles={99.9: 1.5},
        histogram=np.zeros(3, np.int64),
    )
    line = examples_line(found, tiny.tokenizer)
    np.testing.assert_array_equal(line.points, [[3, 2], [6.5, 5]])
    assert "".join(line.tokens[1]) == tiny.tokenizer.decode(ids[1].tolist())
    bare = dataclasses.replace(found, isolated_activation=None, isolated_cross_entropy=None)
    assert len(examples_line(bare, tiny.tokenizer).points) == 0
