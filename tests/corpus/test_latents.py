"""All latents of an autoencoder together are what sae-lens computes, and each what it is by itself."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_saes

from epo_jax.corpus import Document, ScanConfig, latents_of, load_scan, others_of, scan
from epo_jax.features import parse_feature

GOLDENS = Path(__file__).parents[1] / "features" / "sae_golden"
FOLDERS = sorted(path.parent for path in GOLDENS.rglob("expected.npz"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(GOLDENS).parts[0])
def test_latents_together_are_those_of_sae_lens(tiny, folder):
    with np.load(folder / "expected.npz") as stored:
        expected = dict(stored)
    group, names = latents_of(tiny, str(folder))
    assert len(names) == group.width == expected["activations"].shape[1]
    found = np.asarray(group.encoded(jnp.asarray(expected["values"])[None]))[0]
    np.testing.assert_array_equal(found == 0, expected["activations"] == 0)
    scale = np.abs(expected["search"]).max()
    np.testing.assert_allclose(found, expected["activations"], rtol=1e-5, atol=1e-6 * scale)


def test_a_latent_among_all_fires_where_it_does_by_itself(tiny, tmp_path):
    tiny_saes.write(tmp_path / "sae", "standard", "blocks.1.hook_resid_post", tiny.config.width)
    rng = np.random.default_rng(1)
    documents = [Document("text", tiny.tokenizer.decode(rng.integers(5, 90, 60)))]
    config = ScanConfig(length=4, context=16, keep=6)
    together = load_scan(scan(tiny, documents, [latents_of(tiny, str(tmp_path / "sae"))], tmp_path / "all", config))
    name = f"sae:{tmp_path / 'sae'}:2"
    alone = load_scan(scan(tiny, documents, others_of([parse_feature(name, tiny)]), tmp_path / "one", config))
    one, among = alone.examples(name), together.examples(name)
    # By itself it is read before the rectifier, as a search needs it.
    np.testing.assert_allclose(among.activation, np.maximum(one.activation, 0), rtol=1e-5, atol=1e-6)
    assert among.activation[0] > 0
    np.testing.assert_array_equal(among.place[among.activation > 0], one.place[one.activation > 0])
