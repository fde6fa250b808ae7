"""What only Gemma does, against PyTorch's: it scales embeddings, and all its layers may have windows."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models
import torch
from family_checks import load
from family_configs import SLIDING
from flax import nnx
from parity import random_ids

import epo_jax


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3"])
def test_embeddings_are_scaled_by_a_root_that_is_rounded_as_they_are(family: str, dtype: str, tmp_path: Path) -> None:
    # The root of 35 lies between two numbers of half precision.
    model = tiny_models.save(tmp_path, family, hidden_size=35, num_attention_heads=5, num_key_value_heads=1)
    lm = load(tmp_path, dtype)
    ids = random_ids(307, (2, 5))
    found = nnx.merge(lm.graphdef, lm.params).embed(jnp.asarray(ids))
    with torch.no_grad():
        hidden = model.to(getattr(torch, dtype))(torch.from_numpy(ids), output_hidden_states=True).hidden_states
    np.testing.assert_array_equal(np.asarray(found, np.float32), hidden[0].float().numpy())


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
