"""GPT-2, GPT-J and Phi against PyTorch's: logits, every named site, token gradients, old files."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from checking.sites import torch_logits
from family_checks import assert_half_precision, assert_same_gradients, assert_same_sites, assert_suffixes
from parity import assert_same_logits, random_ids

FAMILIES = ("gpt2", "gpt_j", "phi")


def rotary(share: float, base: float = 10000.0, **more: object) -> dict[str, object]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": base, "partial_rotary_factor": share, **more}}


# Each setting by itself, and then several at once; beside or instead of what tiny_models says.
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "gpt2": {
        "as it is": {},
        "unscaled scores": {"scale_attn_weights": False},
        "scores scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
        "untied head": {"tie_word_embeddings": False},
        "relu": {"activation_function": "relu"},
        "gelu": {"activation_function": "gelu"},
        "large epsilon": {"layer_norm_epsilon": 0.3},
        "four times the width": {"n_inner": None},
        "everything": {
            "hidden_size": 35,
            "num_attention_heads": 5,
            "num_hidden_layers": 4,
            "n_inner": 41,
            "vocab_size": 311,
            "scale_attn_by_inverse_layer_idx": True,
            "scale_attn_weights": False,
            "reorder_and_upcast_attn": True,
            "tie_word_embeddings": False,
            "activation_function": "silu",
        },
    },
    "gpt_j": {
        "as it is": {},
        "few components turn": {"rotary_dim": 2},
        "all components turn": {"rotary_dim": 12},
        "relu": {"activation_function": "relu"},
        "large epsilon": {"layer_norm_epsilon": 0.3},
        "four times the width": {"n_inner": None},
        "everything": {
            "hidden_size": 70,
            "num_attention_heads": 7,
            "num_hidden_layers": 4,
            "n_inner": 41,
            "vocab_size": 311,
            "rotary_dim": 6,
            "activation_function": "gelu",
        },
    },
    "phi": {
        "as it is": {},
        "normed queries and keys": {"qk_layernorm": True},
        "few components turn": rotary(0.17),
        "all components turn": rotary(1.0),
        "small rotary base": rotary(0.5, 7.0),
        "linear rotary scaling": rotary(0.5, rope_type="linear", factor=4.0),
        "grouped heads": {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2},
        "relu": {"hidden_act": "relu"},
        "large epsilon": {"layer_norm_eps": 0.3},
        "everything": {
            "hidden_size": 60,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
            "num_hidden_layers": 4,
            "intermediate_size": 41,
            "vocab_size": 311,
            "qk_layernorm": True,
            "hidden_act": "gelu",
            **rotary(0.4, 321.0),
        },
    },
}
CASES = [(family, name) for family in FAMILIES for name in CONFIGS[family]]
# These differ from the plain model in the shape of their weights.
OTHERS = ("as it is", "everything", "four times the width", "grouped heads")


@functools.cache
def plain_logits(family: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        return torch_logits(tiny_models.save(Path(folder), family), random_ids(307))


@pytest.mark.parametrize(("family", "name"), CASES)
def test_logits_equal_pytorch(family: str, name: str, tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, family, **CONFIGS[family][name])
    assert_same_logits(tmp_path, model)
    if name not in OTHERS:
        # A setting that the decoder ignored would go unseen if it made no difference.
        assert np.abs(torch_logits(model, random_ids(307)) - plain_logits(family)).max() > 5e-4


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
    ("dtype", "tolerance"), [pytest.param("float16", 0.004, marks=pytest.mark.slow), ("bfloat16", 0.03)]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_as_close_as_its_rounding(family: str, dtype: str, tolerance: float, tmp_path: Path) -> None:
    assert_half_precision(tmp_path, tiny_models.save(tmp_path, family), dtype, tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_candidates_score_as_when_run_whole(family: str, tmp_path: Path) -> None:
    tiny_models.save(tmp_path, family)
    assert_suffixes(tmp_path)
