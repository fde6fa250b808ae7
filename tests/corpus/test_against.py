"""A dream is held against the examples at the cross-entropies that it says."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pandas as pd
import pytest

from epo_jax import EpoError
from epo_jax.corpus import DatasetExamples
from epo_jax.corpus.against import Comparison, compare, read_comparisons

EXAMPLES = DatasetExamples(
    feature="L1.N2",
    activation=np.array([9, 8, 7], np.float32),
    document=["a", "b", "c"],
    place=np.arange(3),
    context=[np.arange(5, dtype=np.int32)] * 3,
    position=np.array([4, 4, 4], np.int32),
    ids=np.zeros((3, 4), np.int32),
    isolated_activation=np.array([2, 5, 4], np.float32),
    isolated_cross_entropy=np.array([3, 6.5, 5], np.float32),
    percentiles={99.9: 1.5},
    histogram=np.zeros(3, np.int64),
)


def test_each_number_is_the_best_at_its_cross_entropy():
    found = compare(EXAMPLES, np.array([1.0, 6.0, 8.0, 10.0]), np.array([2.0, 5.9, 6.5, 9.0]))
    assert (found.dream, found.dream_fluent, found.dream_at_dataset) == (10, 6, 8)
    assert (found.dataset, found.dataset_cross_entropy, found.dataset_fluent) == (5, 6.5, 4)
    assert (found.in_context, found.percentile_999) == (9, 1.5)
    assert "3.00 higher than the best of 1,000 tokens (8.00 against 5.00)" in found.sentence(1000)


def test_a_dream_that_is_nowhere_so_fluent_says_so():
    found = compare(EXAMPLES, np.array([10.0]), np.array([9.0]))
    assert math.isnan(found.dream_at_dataset)
    assert math.isnan(found.dream_fluent)
    assert found.sentence(1000).endswith("there is no dream of L1.N2.")


def test_examples_that_were_not_scored_by_themselves_are_refused():
    bare = dataclasses.replace(EXAMPLES, isolated_activation=None, isolated_cross_entropy=None)
    with pytest.raises(EpoError, match="were not scored as isolated prompts"):
        compare(bare, np.array([1.0]), np.array([1.0]))


def test_a_table_of_comparisons_is_read_back_and_others_are_refused_in_a_line(tmp_path):
    rows = [Comparison("logit: a,b", 1.5, math.nan, 0.25, 2.0, 4.5, math.nan, 3.0, 0.5)]
    path = tmp_path / "table.csv"
    pd.DataFrame([dataclasses.asdict(row) for row in rows]).to_csv(path, index=False)
    (found,) = read_comparisons(path)
    np.testing.assert_array_equal(dataclasses.astuple(found)[1:], dataclasses.astuple(rows[0])[1:])
    assert found.feature == "logit: a,b"
    for content, told in (("feature,z\nL1.N2,3\n", "lacks dream;"), ("", "cannot be read"), (None, "cannot be read")):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content, encoding="utf-8")
        with pytest.raises(EpoError, match=rf"^--table={re.escape(str(path))}: {told}") as caught:
            read_comparisons(path)
        assert "\n" not in str(caught.value)
