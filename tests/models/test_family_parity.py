"""Models of every family against PyTorch's: logits, every named site, token gradients, half precision, suffixes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checking.sites import torch_logits
from family_checks import assert_half_precision, assert_same_gradients, assert_same_sites, assert_suffixes
from family_configs import CONFIGS, EVERYTHING, GEMMA_WINDOWED, PLAIN
from parity import assert_same_logits, random_ids

# The folder and PyTorch's model of (family, configuration).
Saved = Callable[[str, str], tuple[Path, torch.nn.Module]]

# Of heads of 8 components, 0.33 turns as many as the family's own 0.25.
SAME = {("gpt_neox", "a share that is no whole number of components")}
# Ways to compute one function.
CLOSE = {("gpt_neox", "gelu_fast"), ("gpt_neox", "gelu_new"), ("gpt2", "gelu")}


# What stands between the residual stream and the logits: a head of its own, a tied one, biases, soft caps.
HEADS = ("llama", "gpt2", "gpt_j", "phi", "gemma", "gemma2")


def slow(*values: object, when: bool = True) -> object:
    return pytest.param(*values, marks=[pytest.mark.slow] if when else [])


@pytest.mark.parametrize(
    ("family", "name"),
    # Those of Gemma 3 that Gemma 2 has too can wait.
    [slow(f, name, when=f == "gemma3" and name in GEMMA_WINDOWED) for f in CONFIGS for name in CONFIGS[f]],
)
def test_logits_equal_pytorch_and_each_setting_changes_them(family: str, name: str, saved: Saved) -> None:
    folder, model = saved(family, name)
    assert_same_logits(folder, model)
    # A setting that the decoder ignored would go unseen if it made no difference.
    ids = random_ids(307)
    difference = np.abs(torch_logits(model, ids)[..., :307] - torch_logits(saved(family, PLAIN)[1], ids)).max()
    if name == PLAIN or (family, name) in SAME:
        assert difference == 0
    else:
        assert difference > (5e-4 if (family, name) in CLOSE else 0.05)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((family, EVERYTHING) for family in CONFIGS),
        ("gpt_neox", PLAIN),  # where "everything" is sequential
        slow("gpt_neox", "sequential residual"),
        slow("llama", "grouped attention"),
        *(slow(family, PLAIN) for family in CONFIGS if family != "gpt_neox"),
    ],
)
def test_sites_equal_what_pytorch_hooks_see(family: str, name: str, saved: Saved) -> None:
    assert_same_sites(*saved(family, name))


@pytest.mark.parametrize(
    ("family", "name", "feature"),
    [
        *((family, EVERYTHING, "L1.N7") for family in CONFIGS),
        ("gpt_neox", PLAIN, "token 65"),
        *(slow(family, EVERYTHING, "token 65") for family in HEADS),
        slow("gpt_neox", PLAIN, "L1.N7"),
        slow("gpt_neox", "sequential residual", "L1.N7"),
        slow("gpt_neox", "sequential residual", "token 65"),
    ],
)
def test_scores_and_token_gradients_equal_pytorch(family: str, name: str, feature: str, saved: Saved) -> None:
    assert_same_gradients(*saved(family, name), feature)


@pytest.mark.parametrize(
    ("family", "name", "dtype"),
    [
        *((family, EVERYTHING, "bfloat16") for family in CONFIGS),
        ("gpt_neox", PLAIN, "bfloat16"),
        slow("gpt_neox", "sequential residual", "bfloat16"),
        *(slow(family, EVERYTHING, "float16") for family in HEADS),
    ],
)
def test_half_precision_is_as_close_as_its_rounding(family: str, name: str, dtype: str, saved: Saved) -> None:
    gemma = family.startswith("gemma")
    tolerance = {"bfloat16": 0.04 if gemma else 0.03, "float16": 0.006 if gemma else 0.004}[dtype]
    assert_half_precision(*saved(family, name), dtype, tolerance)


@pytest.mark.parametrize(
    ("family", "name"),
    [*((family, EVERYTHING) for family in CONFIGS), *(slow(family, PLAIN) for family in CONFIGS)],
)
def test_candidates_score_as_when_run_whole(family: str, name: str, saved: Saved) -> None:
    assert_suffixes(saved(family, name)[0])
