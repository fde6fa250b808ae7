"""Frequencies of rotary positions against transformers' own, and settings that are refused."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from epo_jax.errors import EpoError
from epo_jax.models.families.rope import rotary_of

POSITIONS = 4096
# Between what stays and what is divided lies a ramp, on which transformers' float32 loses digits: the narrower it is,
# the more, and times the factor.
RAMP = 3e-4


def of_transformers(rope: dict[str, Any], head_dim: int, positions: int = POSITIONS) -> tuple[np.ndarray, float]:
    """What transformers computes for sequences that are not longer than the shortest that a scaling tells apart."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    config = transformers.LlamaConfig(
        hidden_size=2 * head_dim, num_attention_heads=2, max_position_embeddings=positions, rope_parameters=dict(rope)
    )
    frequencies, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, torch.device("cpu"))
    return frequencies.numpy(), factor


def assert_equal(rope: dict[str, Any], head_dim: int, positions: int = POSITIONS, rtol: float = 3e-6) -> None:
    found, _ = rotary_of(rope, head_dim, positions, "x", partial=True)
    frequencies, factor = of_transformers(rope, head_dim, positions)
    # transformers computes in float32.
    np.testing.assert_allclose(found.frequencies, frequencies, rtol=rtol)
    assert found.factor == pytest.approx(factor, rel=1e-6)


def test_frequencies_without_a_scaling_are_powers_of_the_base() -> None:
    rotary, positions = rotary_of({"rope_type": "default", "rope_theta": 10000.0}, 64, POSITIONS, "x")
    plain = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding
    config = transformers.LlamaConfig(hidden_size=128, num_attention_heads=2)
    np.testing.assert_allclose(rotary.frequencies, plain.compute_default_rope_parameters(config)[0], rtol=3e-6)
    assert (rotary.factor, positions) == (1.0, POSITIONS)


THETAS = st.sampled_from([100.0, 10000.0, 500000, 5e6])
DIMENSIONS = st.sampled_from([4, 8, 64, 80, 128])
SHARES = st.sampled_from([{}, {"partial_rotary_factor": 1.0}, {"partial_rotary_factor": 0.5}])
FACTORS = st.floats(1.0, 64.0) | st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["linear", "dynamic"]), THETAS, DIMENSIONS, SHARES, FACTORS)
def test_linear_and_dynamic_scaling_equal_transformers(
    kind: str, theta: float, head_dim: int, share: dict[str, float], factor: float
) -> None:
    # transformers divides by zero where two components turn dynamically.
    head_dim = max(head_dim, 8) if kind == "dynamic" else head_dim
    assert_equal({"rope_type": kind, "rope_theta": theta, "factor": factor, **share}, head_dim)


@settings(max_examples=40, deadline=None)
@given(THETAS, DIMENSIONS, SHARES, FACTORS, st.integers(2, 20000), st.floats(0.1, 4.0), st.floats(0.5, 8.0))
def test_the_scaling_of_llama_3_equals_transformers(
    theta: float, head_dim: int, share: dict[str, float], factor: float, original: int, low: float, gap: float
) -> None:
    assert_equal(
        {
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": factor,
            "original_max_position_embeddings": original,
            "low_freq_factor": low,
            "high_freq_factor": low + gap,
            **share,
        },
        head_dim,
        rtol=RAMP,
    )


OPTIONAL = {
    "attention_factor": st.floats(0.1, 3.0),
    "beta_fast": st.floats(2.0, 64.0),
    "beta_slow": st.floats(0.2, 1.0),
    "mscale": st.floats(0.1, 2.0),
    "mscale_all_dim": st.floats(0.1, 2.0),
    "truncate": st.booleans(),
}


@settings(max_examples=40, deadline=None)
@given(
    THETAS,
    DIMENSIONS,
    SHARES,
    FACTORS | st.none(),
    st.integers(16, 20000),
    st.fixed_dictionaries({}, optional=OPTIONAL),
)
def test_yarn_equals_transformers(
    theta: float, head_dim: int, share: dict[str, float], factor: float | None, original: int, more: dict[str, Any]
) -> None:
    rope = {"rope_type": "yarn", "rope_theta": theta, "factor": factor, "original_max_position_embeddings": original}
    assert_equal({**rope, **share, **more}, head_dim, rtol=RAMP)


@settings(max_examples=40, deadline=None)
@given(
    THETAS,
    st.sampled_from([4, 6, 64]),
    st.none() | FACTORS,
    st.none() | st.floats(0.1, 3.0),
    st.integers(16, 20000),
    st.randoms(use_true_random=False),
)
def test_longrope_equals_transformers_up_to_the_length_where_its_factors_change(
    theta: float, head_dim: int, factor: float | None, attention: float | None, original: int, random: Any
) -> None:
    short, long = ([random.uniform(1.0, 40.0) for _ in range(head_dim // 2)] for _ in range(2))
    rope = {
        "rope_type": "longrope",
        "rope_theta": theta,
        "short_factor": short,
        "long_factor": long,
        "original_max_position_embeddings": original,
        "factor": factor,
        "attention_factor": attention,
    }
    assert_equal(rope, head_dim)
    assert rotary_of(rope, head_dim, POSITIONS, "x")[1] == min(original, POSITIONS)


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 2048}
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


@pytest.mark.parametrize("rope", [LLAMA3, LINEAR, YARN, LONGROPE], ids=lambda rope: str(rope["rope_type"]))
def test_a_type_may_stand_under_its_old_name_too(rope: dict[str, Any]) -> None:
    both = {**rope, "type": rope["rope_type"]}
    assert rotary_of(both, 8, POSITIONS, "x") == rotary_of(rope, 8, POSITIONS, "x")


@pytest.mark.parametrize(
    ("rope", "says"),
    [
        (None, "rope_parameters is None"),
        ([], "rope_parameters is \\[\\]"),
        ({**LINEAR, "rope_type": "proportional"}, "rope_type is one of default, linear"),
        ({**LINEAR, "rope_type": None}, "rope_type is one of"),
        ({**LINEAR, "type": "yarn"}, "type='yarn'"),
        ({"rope_type": "default"}, "lacks rope_theta"),
        ({"rope_type": "default", "rope_theta": 1e4, "factor": 2.0}, "factor=2.0 is not known"),
        ({**LINEAR, "factor": None}, "lacks factor"),
        ({**LINEAR, "factor": 0}, "factor=0"),
        ({**LINEAR, "factor": float("nan")}, "factor=nan"),
        ({**LINEAR, "factor": "2"}, "factor='2'"),
        ({**LINEAR, "factor": True}, "factor=True"),
        ({**LINEAR, "rope_theta": 1.0}, "rope_theta=1.0"),
        ({**LINEAR, "partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not known"),
        ({**LINEAR, "alpha": 1000.0}, "alpha=1000.0 is not known"),
        ({**LLAMA3, "low_freq_factor": 4.0}, "low_freq_factor=4.0 is not below high_freq_factor=4.0"),
        ({**LLAMA3, "original_max_position_embeddings": 1}, "original_max_position_embeddings=1"),
        ({**YARN, "truncate": None}, "truncate is nothing"),
        ({**YARN, "truncate": 1}, "truncate=1"),
        ({**YARN, "beta_fast": -1}, "beta_fast=-1"),
        ({**LONGROPE, "short_factor": [1.0] * 3}, "short_factor has 3 numbers, where 4 are read"),
        ({**LONGROPE, "long_factor": [1.0] * 5}, "long_factor has 5 numbers, where 4 are read"),
        ({**LONGROPE, "short_factor": [1.0, 1.0, 1.0, 0.0]}, "short_factor="),
        ({**LONGROPE, "long_factor": None}, "lacks long_factor"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(rope: Any, says: str) -> None:
    with pytest.raises(EpoError, match=says) as caught:
        rotary_of(rope, 8, POSITIONS, "config.json")
    assert str(caught.value).startswith("config.json: ")


@pytest.mark.parametrize(("head_dim", "share"), [(7, 1.0), (8, 0.4), (8, 0.1)])
def test_components_without_a_partner_are_refused(head_dim: int, share: float) -> None:
    with pytest.raises(EpoError, match="where an even number is read"):
        rotary_of(
            {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": share}, head_dim, 64, "x", partial=True
        )
