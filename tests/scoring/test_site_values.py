"""What sites hold, against hooks in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from checking.sites import hooked, present

import epo_jax
from epo_jax import EpoError
from epo_jax.scoring import site_values

LENGTHS = (3, 19, 7)
RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(1, 290, length).tolist() for length in LENGTHS]


@pytest.fixture(scope="module")
def expected(tiny, tiny_torch):
    """Each sequence by itself in PyTorch: site -> [L, S, ...] for each."""
    ran = [hooked(tiny_torch, np.asarray([one]), present(tiny)) for one in SEQUENCES]
    return {site: [values[site][:, 0] for values in ran] for site in present(tiny)}


@pytest.fixture(scope="module", autouse=True)
def _eager(tiny_torch):
    # PyTorch gives its patterns out of this way to compute attention alone.
    tiny_torch.set_attn_implementation("eager")


def test_every_site_of_every_layer_holds_what_hooks_see_in_pytorch(tiny, expected, monkeypatch):
    monkeypatch.setattr(site_values, "AT_ONCE", 2)
    for site, values in expected.items():
        for layer in range(tiny.config.layers):
            found = epo_jax.activations(tiny, site.format(l=layer), SEQUENCES)
            assert [one.shape for one in found] == [one[layer].shape for one in values]
            for ours, theirs in zip(found, values, strict=True):
                assert ours.dtype == np.float32
                np.testing.assert_allclose(ours, theirs[layer], rtol=1e-4, atol=1e-5, err_msg=site)


def test_an_array_of_ids_gives_a_list_too(tiny):
    ids = np.asarray([SEQUENCES[1], SEQUENCES[1][::-1]])
    found = epo_jax.activations(tiny, "blocks.1.hook_resid_post", ids)
    (alone,) = epo_jax.activations(tiny, "blocks.1.hook_resid_post", ids[1:])
    assert len(found) == 2
    np.testing.assert_allclose(found[1], alone, rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_a_sequence_may_be_as_long_as_the_model_takes(tiny):
    longest = RNG.integers(1, 290, tiny.config.max_positions)
    (found,) = epo_jax.activations(tiny, "blocks.0.hook_resid_pre", [longest])
    assert found.shape == (tiny.config.max_positions, tiny.config.width)


@pytest.mark.parametrize(
    ("site", "ids", "told"),
    [
        ("blocks.1.resid", [[1, 2]], r"^activations: 'blocks\.1\.resid' is no site; with a layer's number"),
        ("blocks.99.hook_resid_pre", [[1, 2]], r"^activations: the model has no layer 99"),
        ("blocks.0.hook_resid_pre", [], r"^ids: hold no sequence"),
        ("blocks.0.hook_resid_pre", 5, r"^ids: are of type int, where sequences of tokens are read"),
        ("blocks.0.hook_resid_pre", [1, 2], r"^ids: have shape \(1,\)"),
        ("blocks.0.hook_resid_pre", [[1], []], r"^ids: have shape \(1, 0\)"),
        ("blocks.0.hook_resid_pre", [[1, 10**6]], r"^ids: 1 to 1000000 are outside the vocabulary"),
    ],
)
def test_what_cannot_be_read_is_refused(tiny, site, ids, told):
    with pytest.raises(EpoError, match=told):
        epo_jax.activations(tiny, site, ids)
