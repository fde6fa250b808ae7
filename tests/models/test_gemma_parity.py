"""Gemma 1, 2 and 3 against PyTorch's: logits, every named site, token gradients."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models
import torch
from checking.sites import torch_logits
from family_checks import assert_half_precision, assert_same_gradients, assert_same_sites, assert_suffixes, load
from flax import nnx
from parity import assert_same_logits, random_ids

import epo_jax

FAMILIES = ("gemma", "gemma2", "gemma3")
SLIDING, FULL = "sliding_attention", "full_attention"


def bases(full: float = 1e6, sliding: float = 1e4, **scaling: object) -> dict[str, object]:
    kinds = {FULL: {"rope_type": "default", "rope_theta": full, **scaling}}
    return {"rope_parameters": {**kinds, SLIDING: {"rope_type": "default", "rope_theta": sliding}}}


ODD = {
    "hidden_size": 35,
    "intermediate_size": 41,
    "num_hidden_layers": 4,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "head_dim": 6,
    "vocab_size": 311,
    "tie_word_embeddings": False,
    "attention_bias": True,
    "rms_norm_eps": 0.01,
}
WINDOWED: dict[str, dict[str, Any]] = {
    "another scale of scores": {"query_pre_attn_scalar": 3},
    "a logit cap": {"final_logit_softcapping": 2.0},
    "another activation": {"hidden_activation": "relu"},
    "a window of one": {"sliding_window": 1},
    "a window longer than the sequence": {"sliding_window": 40},
    "all layers full": {"layer_types": [FULL] * 3},
    "all layers sliding": {"layer_types": [SLIDING] * 3},
    "other layers sliding": {"layer_types": [FULL, SLIDING, SLIDING]},
}
# Each setting by itself, and then several at once; beside or instead of what tiny_models says.
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "gemma": {
        "as it is": {},
        "biases": {"attention_bias": True},
        "untied head": {"tie_word_embeddings": False},
        "small rotary base": {"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}},
        "large epsilon": {"rms_norm_eps": 30.0},
        "another activation": {"hidden_act": "silu"},
        "everything": {**ODD, "hidden_act": "silu"},
    },
    "gemma2": {
        "as it is": {},
        **WINDOWED,
        "no cap of scores": {"attn_logit_softcapping": None},
        "no cap of logits": {"final_logit_softcapping": None},
        "everything": {**ODD, "sliding_window": 4, "layer_types": [FULL, SLIDING, SLIDING, FULL]},
    },
    "gemma3": {
        "as it is": {},
        **WINDOWED,
        "another base of full layers": bases(full=7.0),
        "another base of sliding layers": bases(sliding=7.0),
        "scaled positions in full layers": bases(rope_type="linear", factor=8.0),
        "everything": {
            **ODD,
            "num_hidden_layers": 7,
            "sliding_window": 4,
            "layer_types": [*[SLIDING] * 5, FULL, SLIDING],
            **bases(300.0, 20.0, rope_type="linear", factor=8.0),
        },
    },
}
# Those of Gemma 3 that Gemma 2 has too can wait.
CASES = [
    pytest.param(family, name, marks=[pytest.mark.slow] if family == "gemma3" and name in WINDOWED else [])
    for family in FAMILIES
    for name in CONFIGS[family]
]


@functools.cache
def plain_logits(family: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        return torch_logits(tiny_models.save(Path(folder), family), random_ids(307))


@pytest.mark.parametrize(("family", "name"), CASES)
def test_logits_equal_pytorch(family: str, name: str, tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, family, **CONFIGS[family][name])
    assert_same_logits(tmp_path, model)
    if name not in ("as it is", "everything"):
        # A setting that the decoder ignored would go unseen if it made no difference.
        assert np.abs(torch_logits(model, random_ids(307)) - plain_logits(family)).max() > 0.01


@pytest.mark.parametrize("name", ["everything", pytest.param("as it is", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES)
def test_sites_equal_what_pytorch_hooks_see(family: str, name: str, tmp_path: Path) -> None:
    assert_same_sites(tmp_path, tiny_models.save(tmp_path, family, **CONFIGS[family][name]))


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("everything", "L1.N7"),
        pytest.param("everything", "token 65", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_token_gradients_equal_autograd(family: str, name: str, feature: str, tmp_path: Path) -> None:
    assert_same_gradients(tmp_path, tiny_models.save(tmp_path, family, **CONFIGS[family][name]), feature)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [pytest.param("float16", 0.006, marks=pytest.mark.slow), ("bfloat16", 0.04)]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_as_close_as_its_rounding(family: str, dtype: str, tolerance: float, tmp_path: Path) -> None:
    assert_half_precision(tmp_path, tiny_models.save(tmp_path, family), dtype, tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_scaled_by_a_root_that_is_rounded_as_they_are(family: str, dtype: str, tmp_path: Path) -> None:
    # The root of 35 lies between two numbers of half precision.
    model = tiny_models.save(tmp_path, family, hidden_size=35, num_attention_heads=5, num_key_value_heads=1)
    lm = load(tmp_path, dtype)
    ids = random_ids(307, (2, 5))
    found = nnx.merge(lm.graphdef, lm.params).embed(jnp.asarray(ids))
    with torch.no_grad():
        hidden = model.to(getattr(torch, dtype))(torch.from_numpy(ids), output_hidden_states=True).hidden_states
    np.testing.assert_array_equal(np.asarray(found, np.float32), hidden[0].float().numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_candidates_score_as_when_run_whole(family: str, tmp_path: Path) -> None:
    tiny_models.save(tmp_path, family)
    assert_suffixes(tmp_path)


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
def test_a_token_outside_all_windows_is_not_seen(family: str, tmp_path: Path) -> None:
    tiny_models.save(tmp_path, family, layer_types=[SLIDING] * 3, sliding_window=4)
    ids = random_ids(307, (1, 14))
    changed = ids.copy()
    changed[0, 2] = (changed[0, 2] + 5) % 307
    before, after = (epo_jax.logits(load(tmp_path), each)[0] for each in (ids, changed))
    # Through three layers, each token sees 3 x 3 before it.
    differs = np.abs(before - after).max(axis=-1) > 1e-6
    assert differs[2:12].all()
    assert not differs[:2].any()
    assert not differs[12:].any()
