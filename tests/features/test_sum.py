"""Weighted sums of features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusing import refused

import epo_jax
from epo_jax.features import sum as weighted_sum


def terms_of(text, lm):
    """Weights and terms, whatever the terms are."""
    seen = []
    neuron = epo_jax.parse_feature("L1.N5", lm)

    def parse_feature(term, lm):
        seen.append(term)
        return neuron

    found = weighted_sum.parse(text, lm, parse_feature)
    return list(zip(np.asarray(found.weights).tolist(), seen, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum:0.5*(L1.N2)-1*(logit: dog)", [(0.5, "L1.N2"), (-1, "logit: dog")]),
        ("sum:(a)+(b)-(c)", [(1, "a"), (1, "b"), (-1, "c")]),
        ("sum:-.5*(a) + 2e1 *( b )", [(-0.5, "a"), (20, " b ")]),
        ("sum:- 1.*(logit: (x(y))z)", [(-1, "logit: (x(y))z")]),
        ("sum:2*(sum:1*(a)-3*(b))+0*(-c)", [(2, "sum:1*(a)-3*(b)"), (0, "-c")]),
    ],
)
def test_sums_are_taken_apart(tiny, text, expected):
    assert terms_of(text, tiny) == [(pytest.approx(weight), term) for weight, term in expected]


balanced = st.recursive(
    st.text(st.characters(exclude_characters="()"), max_size=5),
    lambda inner: st.tuples(inner, inner, inner).map(lambda parts: f"{parts[0]}({parts[1]}){parts[2]}"),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), balanced), min_size=1, max_size=4))
def test_sums_of_any_weights_and_texts_with_balanced_parentheses_are_taken_apart(tiny, terms):
    text = "".join(f"{weight:+}*({term})" for weight, term in terms)
    assert terms_of(f"sum:{text}", tiny) == [(pytest.approx(weight, rel=1e-6), term) for weight, term in terms]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sum:", "no term at ''"),
        ("sum:L1.N2", "no term at 'L1.N2'"),
        ("sum:0.5*L1.N2", "no term at '0.5*L1.N2'"),
        ("sum:0.5(L1.N2)", "no term at '0.5(L1.N2)'"),
        ("sum:(L1.N2)(L1.N3)", "no term at '(L1.N3)'"),
        ("sum:(L1.N2)+", "no term at '+'"),
        ("sum:(L1.N2))", "no term at ')'"),
        ("sum:nan*(L1.N2)", "no term at 'nan*(L1.N2)'"),
        ("sum:1*(L1.N2", "is never closed"),
        ("sum:1*(logit: ()+1*(L1.N2)", "is never closed"),
        ("sum:1e39*(L1.N2)", "beyond float32"),
        ("sum:1*(L9.N2)", "the model has no layer 9"),
        ("sum:1*()", "not a feature string"),
        ("sum:1*(continuation: a)+1*(continuation: b)", "one text can follow the prompt"),
    ],
)
def test_what_is_no_sum_is_refused(tiny, text, said):
    refused(tiny, text, said)


def test_one_text_may_stand_in_several_terms(tiny):
    found = epo_jax.parse_feature("sum:1*(continuation:(a))-1*(continuation:(a))+1*(L1.N2)", tiny)
    assert tiny.tokenizer.decode(found.target) == "(a)"
    assert set(found.reads) == {"target", "read"}
