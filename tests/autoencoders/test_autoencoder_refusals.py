"""Malformed and mismatched autoencoders: one clear line each."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import safetensors.numpy
import tiny_saes
from corrupting import corrupted

import epo_jax
from epo_jax import EpoError

WIDTH, D_SAE = 36, tiny_saes.D_SAE
LOADING = "model_from_pretrained_kwargs"
ABSENT = object()


def refusal(lm, text: str) -> str:
    with pytest.raises(EpoError) as caught:
        epo_jax.parse_feature(text, lm)
    message = str(caught.value)
    assert message.startswith(f"--feature={text}: ")
    assert "\n" not in message
    assert len(message) < 900
    return message.removeprefix(f"--feature={text}: ")


def reconfigure(written, **changes: object) -> None:
    """Change keys of cfg.json; those of `metadata` are changed one by one, and `ABSENT` takes a key out."""
    config = json.loads((written.folder / "cfg.json").read_text())
    for key, value in changes.items():
        table = config["metadata"] if key in (*config["metadata"], "hook_head_index", LOADING) else config
        table.pop(key, None)
        if value is not ABSENT:
            table[key] = value
    (written.folder / "cfg.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rotate_latents": True, "z_score": 2}, "keys that are not known .*: rotate_latents, z_score"),
        ({"architecture": "abstopk"}, "architecture 'abstopk' is not known; known are standard, gated, jumprelu, topk"),
        ({"architecture": "batchtopk"}, "a training checkpoint; save it for inference"),
        ({"architecture": 3}, "architecture=3 is not a str"),
        ({"architecture": "topk"}, "needs a whole k above 0, and it says None"),
        ({"architecture": "topk", "k": 2.5}, "needs a whole k above 0, and it says 2.5"),
        ({"architecture": "topk", "k": 99}, f"k=99 is more than its {D_SAE} latents"),
        ({"activation_fn": "tanh-relu"}, "activation_fn='tanh-relu' is not known with standard"),
        ({"activation_fn": "relu", "activation_fn_kwargs": {"p": 1}}, "activation_fn_kwargs=.* only k is"),
        ({"apply_b_dec_to_input": "yes"}, "apply_b_dec_to_input='yes' is not a bool"),
        (
            {"normalize_activations": "covariance_whitening"},
            "normalize_activations='covariance_whitening' is not known",
        ),
        ({"normalize_activations": "expected_average_only_in"}, "needs the factor of the activations"),
        ({"normalize_activations": True}, "expected_average_only_in needs the factor"),
        ({"reshape_activations": "hook_z"}, "reshape_activations='hook_z' is not known for blocks.1.hook_resid_post"),
        ({"hook_name": ABSENT}, "has no hook_name; it must name TransformerLens's site"),
        ({"hook_name": "blocks.1.hook_mlp_in"}, "'blocks.1.hook_mlp_in' is no site"),
        ({"hook_name": "blocks.1.mlp.hook_post"}, "latents of blocks.1.mlp.hook_post are not read"),
        ({"hook_name": "blocks.9.hook_resid_post"}, "has no layer 9; its layers are 0 to 2"),
        ({"hook_layer": 2}, "hook_name=blocks.1.hook_resid_post and hook_layer=2 disagree"),
        ({"hook_head_index": 2}, "hook_head_index=2 means nothing at blocks.1.hook_resid_post"),
        ({"model_class_name": "AutoModelForCausalLM"}, "of AutoModelForCausalLM; it must name TransformerLens's site"),
        ({"model_kwargs": {"fast": 1}}, "model_kwargs=.* are not read"),
        ({"hook_point": "blocks.0.hook_resid_post"}, "says hook_name twice"),
        ({"d_in": 35}, r"W_enc has shape \(36, 13\), and the configuration says d_in=35"),
        ({"d_sae": 12}, "the configuration says d_sae=12"),
        ({"metadata": ["text"]}, "metadata must be an object"),
        ({LOADING: {"center_all": True}}, f"{LOADING} has keys that are not known here: center_all"),
        ({LOADING: {"checkpoint_value": 3000}}, "another checkpoint of the model .*3000"),
        ({LOADING: 7}, f"{LOADING} must be an object"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_asks_for_what_is_not_done_is_refused(tiny, written, changes, said):
    reconfigure(written, **changes)
    assert re.search(said, refusal(tiny, written.text(3)))


def resave(written, **tensors: object) -> None:
    """Write the weights anew with others in their place; `ABSENT` takes one out."""
    kept = {name: value for name, value in {**written.tensors, **tensors}.items() if value is not ABSENT}
    safetensors.numpy.save_file(kept, written.folder / "sae_weights.safetensors")


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"b_enc": ABSENT}, "lacks b_enc; of standard ones W_dec, W_enc, b_dec, b_enc are read"),
        ({"W_dec": ABSENT, "threshold": np.zeros(D_SAE)}, "lacks W_dec and has the unknown threshold"),
        ({"b_enc": np.zeros(D_SAE - 1)}, r"b_enc has shape \(12,\), where \(13,\) fits W_enc"),
        ({"W_dec": np.zeros((WIDTH, D_SAE))}, r"W_dec has shape \(36, 13\), where \(13, 36\) fits"),
        ({"b_dec": np.zeros((1, WIDTH))}, r"b_dec has shape \(1, 36\), where \(36,\) fits"),
        ({"W_enc": np.zeros(WIDTH)}, r"W_enc has shape \(36,\), where a matrix is read"),
        ({"b_enc": np.zeros(D_SAE, np.int32)}, "b_enc are not stored as floats"),
        ({"b_enc": np.full(D_SAE, np.nan)}, "latent 3 has numbers that are not finite"),
    ],
)
def test_weights_that_are_not_the_architectures_are_refused(tiny, written, tensors, said):
    resave(written, **tensors)
    assert re.search(said, refusal(tiny, written.text(3)))


def test_a_width_that_is_not_the_models_is_refused(tiny, tmp_path):
    written = tiny_saes.write(tmp_path, "standard", "blocks.1.hook_resid_post", 24)
    message = refusal(tiny, written.text(0))
    assert "reads 24 numbers, and blocks.1.hook_resid_post of" in message
    assert message.endswith("has 36; it belongs to tiny")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (":13", "has no latent 13; its latents are 0 to 12"),
        (":-1", "not a latent; the form is sae:"),
        (":", "not a latent"),
        ("", "not a latent"),
    ],
)
def test_a_latent_that_there_is_not_is_refused(tiny, written, end, said):
    assert said in refusal(tiny, f"sae:{written.folder}{end}")


def test_files_that_cannot_be_read_are_refused(tiny, written):
    weights, text = written.folder / "sae_weights.safetensors", written.text(0)
    weights.write_bytes(weights.read_bytes()[:-5])
    assert "not a whole safetensors file" in refusal(tiny, text)
    weights.unlink()
    message = refusal(tiny, text)
    assert "is no autoencoder's folder" in message
    assert message.endswith("it has cfg.json")
    (written.folder / "sae_weights.safetensors").touch()
    (written.folder / "cfg.json").write_text("{")
    assert "cfg.json cannot be read as JSON" in refusal(tiny, text)
    (written.folder / "cfg.json").write_text("[]")
    assert "cfg.json must be an object" in refusal(tiny, text)
    (written.folder / "other.txt").touch()
    assert "other.txt is no autoencoder" in refusal(tiny, f"sae:{written.folder / 'other.txt'}:0")


@pytest.fixture
def scope(tmp_path):
    """A params.npz of no known repository."""
    written = tiny_saes.write(tmp_path / "json", "jumprelu", "blocks.1.hook_resid_post", WIDTH)
    np.savez(tmp_path / "params.npz", **written.tensors)
    shutil.rmtree(written.folder)
    return tmp_path / "params.npz"


def test_a_params_npz_of_no_known_place_needs_its_site_said(tiny, scope):
    text = f"sae:{scope.parent}:0"
    assert 'put cfg.json beside it with {"hook_name": "blocks.20.hook_resid_post"}' in refusal(tiny, text)
    (scope.parent / "cfg.json").write_text('{"hook_name": "blocks.2.hook_mlp_out"}')
    feature = epo_jax.parse_feature(text, tiny)
    assert (feature.site, int(feature.layer), float(feature.center.max())) == ("blocks.{l}.hook_mlp_out", 2, 0)
    assert epo_jax.parse_feature(f"sae:{scope}:0", tiny).site == feature.site


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read as a .npz file"),
        (lambda path: path.write_bytes(b"not a zip"), "cannot be read as a .npz file"),
        (lambda path: np.savez(path, W_enc=np.asarray([{"a": 1}])), "is of type object"),
        (lambda path: np.savez(path, w_enc=np.zeros(2), W_enc=np.zeros(2)), "a tensor under two names"),
        (lambda path: np.savez(path, W_enc=np.zeros((WIDTH, D_SAE))), "lacks W_dec, b_dec, b_enc, threshold"),
    ],
)
def test_a_damaged_npz_is_refused(tiny, scope, spoil, said):
    spoil(scope)
    (scope.parent / "cfg.json").write_text('{"hook_name": "blocks.2.hook_mlp_out"}')
    assert said in refusal(tiny, f"sae:{scope.parent}:0")


def test_an_npz_whose_numbers_were_changed_is_refused_by_its_checksum(tiny, scope):
    (scope.parent / "cfg.json").write_text('{"hook_name": "blocks.2.hook_mlp_out"}')
    data = bytearray(scope.read_bytes())
    data[400] ^= 1
    scope.write_bytes(data)
    assert "Bad CRC-32" in refusal(tiny, f"sae:{scope}:0")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_give_one_line_or_a_latent_and_never_anything_else(tiny, scope, written, compressed):
    (scope.parent / "cfg.json").write_text('{"hook_name": "blocks.2.hook_mlp_out"}')
    with np.load(scope) as stored:
        (np.savez_compressed if compressed else np.savez)(scope, **stored)
    weights = written.folder / "sae_weights.safetensors"
    messages = []
    for path, text in ((scope, f"sae:{scope}:3"), (weights, written.text(3))):
        content = path.read_bytes()
        for seed in range(40):
            path.write_bytes(corrupted(content, 300, seed))
            try:
                epo_jax.parse_feature(text, tiny)
            except EpoError as error:
                messages.append(str(error).removeprefix(f"--feature={text}: "))
    assert len(messages) > 50
    assert not [message for message in messages if "\n" in message or message.startswith("--")]
