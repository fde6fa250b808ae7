"""Parts of a layer by themselves: norms keep their digits, and a site that is not there is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parity import random_ids

import epo_jax
from epo_jax.models import decoder as sites
from epo_jax.models.blocks import norm
from epo_jax.models.config import DTYPES


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_norms_are_computed_in_float32(kind: str, dtype: str, shift: float, neox_folder: Path) -> None:
    # Sums of squares of these rows are beyond float16, and their spread is lost in sums that bfloat16 keeps.
    config = dataclasses.replace(epo_jax.load_model(str(neox_folder), dtype="float32").config, norm=kind, dtype=dtype)
    rows = jnp.asarray(np.random.default_rng(0).normal(shift, 3, (5, config.width)) * 8, DTYPES[dtype])
    found = norm(config, config.width, nnx.Rngs(0))(rows)
    assert found.dtype == DTYPES[dtype]
    exact = np.asarray(rows, np.float64)
    mean = exact.mean(axis=-1, keepdims=True) if kind == "layer" else 0.0
    expected = (exact - mean) / np.sqrt(((exact - mean) ** 2).mean(axis=-1, keepdims=True) + config.norm_eps)
    rounding = float(jnp.finfo(DTYPES[dtype]).eps)
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=2 * rounding, atol=1e-4)


def test_a_site_that_a_parallel_residual_lacks_is_refused_and_never_wrong(neox_folder: Path) -> None:
    lm = epo_jax.load_model(str(neox_folder), dtype="float32")
    model = nnx.merge(lm.graphdef, lm.params)
    embeddings = model.embed(jnp.asarray(random_ids(307)))
    observer = sites.Observer((sites.RESID_MID,), lambda kept, _site, _layer, _value: kept)
    with pytest.raises(epo_jax.EpoError, match=r"hook_resid_mid: this model has no such site.*parallel residual"):
        jax.jit(lambda x: model(x, observer, jnp.zeros(()))[1])(embeddings)
