"""Directions and probes out of files."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusing import refused

import epo_jax
from epo_jax import EpoError
from epo_jax.features.residual import standardized


@pytest.fixture
def parallel(tiny):
    """As if its residual were parallel."""
    return dataclasses.replace(tiny, config=dataclasses.replace(tiny.config, parallel_residual=True))


@pytest.fixture
def saved(tmp_path):
    """The function that saves an array and gives the file's name."""

    def save(array):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, array, allow_pickle=True)
        return str(path)

    return save


def test_a_direction_is_that_of_the_file_or_of_the_seed(tiny, saved):
    values = np.random.default_rng(7).standard_normal(36)
    of_file = epo_jax.parse_feature(f"residual:L1:{saved(values)}", tiny)
    of_seed = epo_jax.parse_feature("residual:L1:random:7", tiny)
    np.testing.assert_array_equal(of_file.vector, values.astype(np.float32))
    np.testing.assert_array_equal(of_seed.vector, values.astype(np.float32))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(35), "has shape (35,), where (36,) is read, the width of the model's residual stream"),
        (np.zeros((1, 36)), "has shape (1, 36)"),
        (np.zeros(()), "has shape ()"),
        (np.full(36, np.nan), "not finite"),
        (np.full(36, 1e300), "not finite in float32"),
        (np.zeros(36, complex), "dtype complex128, where real numbers are read"),
        (np.zeros(36, bool), "dtype bool"),
        (np.zeros(36, "U3"), "dtype <U3"),
        (np.zeros(36, object), "cannot be read as a .npy file"),
    ],
)
def test_a_file_that_is_no_vector_of_the_models_width_is_refused(tiny, saved, array, said):
    refused(tiny, f"residual:L1:{saved(array)}", said)


def test_files_that_cannot_be_read_are_refused(tiny, tmp_path):
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("1 2 3")
    np.savez(tmp_path / "several.npz", a=np.zeros(36))
    np.save(tmp_path / "whole.npy", np.zeros(36))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-8])
    for name, said in {
        "none.npy": "there is no file",
        "empty.npy": "cannot be read",
        "text.npy": "cannot be read",
        "several.npz": "holds several arrays",
        "cut.npy": "cannot be read",
        ".": "cannot be read",
    }.items():
        refused(tiny, f"residual:L1:{tmp_path / name}", said)


def test_spoiled_files_are_refused_or_read_and_nothing_else(tiny, tmp_path):
    np.save(tmp_path / "direction.npy", np.arange(36.0))
    np.savez(tmp_path / "probe.npz", weights=np.arange(36.0), bias=3)
    rng = np.random.default_rng(0)
    outcomes = set()
    for name, text in {"direction.npy": "residual:L1:", "probe.npz": "probe:blocks.1.hook_resid_pre:"}.items():
        whole = (tmp_path / name).read_bytes()
        for _ in range(150):
            spoiled = np.frombuffer(whole, np.uint8).copy()
            places = rng.integers(0, len(whole) if rng.random() < 0.5 else 128, rng.integers(1, 6))
            spoiled[places] = rng.integers(0, 256, len(places))
            cut = len(whole) if rng.random() < 0.7 else rng.integers(0, len(whole))
            (tmp_path / "spoiled").write_bytes(spoiled.tobytes()[:cut])
            try:
                epo_jax.parse_feature(f"{text}{tmp_path / 'spoiled'}", tiny)
                outcomes.add((name, "read", False))
            except EpoError as error:
                outcomes.add((name, "refused", "\n" in str(error)))
    assert outcomes == {(name, what, False) for name in ("direction.npy", "probe.npz") for what in ("read", "refused")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("residual:", "not a residual direction"),
        ("residual:L1", "not a residual direction"),
        ("residual:L1:", "not a residual direction"),
        ("residual:12:random:1", "residual:L12:random:SEED"),
        ("residual:L1.out:random:1", "with .pre, .mid or .post"),
        ("residual:L3:random:1", "the model has no layer 3; its layers are 0 to 2"),
        ("residual:L1:random:-1", "'-1' is no seed"),
        ("residual:L1:random:", "'' is no seed"),
        ("residual:L1:random:1.5", "'1.5' is no seed"),
    ],
)
def test_what_is_no_direction_is_refused(tiny, text, said):
    refused(tiny, text, said)


def test_the_middle_of_a_parallel_residual_is_refused(parallel):
    refused(parallel, "residual:L1.mid:random:1", "parallel residual")
    assert epo_jax.parse_feature("residual:L1.post:random:1", parallel).sites == ("blocks.{l}.hook_resid_post",)


def test_a_stream_of_equal_numbers_is_zeros_with_a_finite_gradient():
    jacobian = jax.jacobian(standardized)(jnp.full(4, 3.0))
    assert np.isfinite(jacobian).all()
    np.testing.assert_array_equal(standardized(jnp.full(4, 3.0)), np.zeros(4))


@pytest.fixture
def probe(tmp_path):
    """The function that saves a probe and gives its feature string."""

    def save(site="blocks.1.hook_resid_post", **arrays):
        np.savez(tmp_path / "probe.npz", **arrays)
        return f"probe:{site}:{tmp_path / 'probe.npz'}"

    return save


def test_a_probe_without_a_bias_has_none(tiny, probe):
    weights = np.arange(36)
    for bias, expected in (({}, 0), ({"bias": 2}, 2), ({"bias": np.asarray([-0.5])}, -0.5)):
        found = epo_jax.parse_feature(probe(weights=weights, **bias), tiny)
        assert found.bias == expected
        np.testing.assert_array_equal(found.weights, weights)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"bias": 1}, "has no weights; its arrays may be weights, bias"),
        ({"weights": np.zeros(36), "mean": np.zeros(36)}, "has the unknown mean"),
        ({"weight": np.zeros(36)}, "has no weights and has the unknown weight"),
        ({"weights": np.zeros(53)}, "has shape (53,), where (36,) is read, the width of blocks.1.hook_resid_post"),
        ({"weights": np.zeros((36, 1))}, "has shape (36, 1)"),
        ({"weights": np.full(36, np.inf)}, "not finite"),
        ({"weights": np.zeros(36), "bias": np.zeros(36)}, "bias of"),
        ({"weights": np.zeros(36), "bias": np.nan}, "not finite"),
    ],
)
def test_a_file_that_is_no_probe_of_the_site_is_refused(tiny, probe, arrays, said):
    refused(tiny, probe(**arrays), said)


def test_probes_of_other_things_than_sites_with_numbers_of_their_own_are_refused(tiny, probe, parallel):
    zeros = np.zeros(36)
    refused(tiny, probe("blocks.1.attn.hook_pattern", weights=zeros), "no probe reads blocks.1.attn.hook_pattern")
    refused(tiny, probe("blocks.1.hook_out", weights=zeros), "'blocks.1.hook_out' is no site")
    refused(tiny, probe("blocks.3.hook_resid_pre", weights=zeros), "no layer 3")
    refused(parallel, probe("blocks.1.hook_resid_mid", weights=zeros), "parallel residual")
    refused(tiny, "probe:blocks.1.hook_resid_pre", "the form is probe:blocks.5.hook_resid_post:FILE.npz")
    refused(tiny, "probe:blocks.1.hook_resid_pre:none.npz", "there is no file none.npz")


def test_a_probe_out_of_one_array_without_a_name_is_refused(tiny, saved):
    refused(tiny, f"probe:blocks.1.hook_resid_pre:{saved(np.zeros(36))}", "holds one array without a name")
