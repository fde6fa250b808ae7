"""The whole on the embedded model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import epo_jax
from epo_jax.dream.__main__ import DEFAULT_FEATURE

LAYER, NEURON = (int(part[1:]) for part in DEFAULT_FEATURE.split("."))


def torch_scores(model: torch.nn.Module, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The neuron at the last token, and the cross-entropy of all tokens but the first, by PyTorch."""
    seen = []
    hook = model.model.layers[LAYER].mlp.down_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        logits = model(torch.from_numpy(ids.astype(np.int64))).logits
    hook.remove()
    surprisal = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), torch.from_numpy(ids[:, 1:].astype(np.int64)), reduction="none"
    )
    return seen[0][:, -1, NEURON].numpy(), surprisal.mean(dim=1).numpy()


@pytest.mark.slow
def test_a_dream_of_the_default_neuron_finds_what_its_neuron_fires_on_and_pytorch_agrees_on_every_frontier_prompt(
    lm, torch_lm
):
    config = dataclasses.replace(epo_jax.PRESETS["quick"], iterations=15)
    result = epo_jax.dream(lm, DEFAULT_FEATURE, config, seed=0)
    assert result.frontier.feature.max() > 3
    feature, cross_entropy = torch_scores(torch_lm, result.frontier.ids)
    np.testing.assert_allclose(result.frontier.feature, feature, atol=1e-3)
    np.testing.assert_allclose(result.frontier.cross_entropy, cross_entropy, atol=1e-3)


def test_a_few_steps_from_a_text_score_what_pytorch_scores(lm, torch_lm):
    config = epo_jax.EPOConfig(iterations=2, population=2, children=3, length=5)
    result = epo_jax.dream(lm, DEFAULT_FEATURE, config, init_text="I can't remember that")
    feature, cross_entropy = torch_scores(torch_lm, result.history.ids)
    np.testing.assert_allclose(result.history.feature, feature, atol=1e-3)
    np.testing.assert_allclose(result.history.cross_entropy, cross_entropy, atol=1e-3)
