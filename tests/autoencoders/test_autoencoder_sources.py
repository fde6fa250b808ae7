"""Autoencoders by hub id and by release: the real hub library against a server on loopback."""

from __future__ import annotations

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models
import tiny_saes

import epo_jax
from epo_jax import EpoError
from epo_jax.autoencoders import sources

WIDTH, POST = 36, "blocks.1.hook_resid_post"
LOADING = "model_from_pretrained_kwargs"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A tiny GPT-2, whose norms are LayerNorm."""
    folder = tmp_path_factory.mktemp("gpt2")
    tiny_models.save(folder, "gpt2")
    return epo_jax.load_model(str(folder), dtype="float32")


@pytest.fixture
def repo(tmp_path):
    """A repository with an autoencoder among other files."""
    written = tiny_saes.write(tmp_path / "repo" / "deep" / "sae", "standard", POST, WIDTH)
    (tmp_path / "repo" / "README.md").write_text("Text")
    (tmp_path / "repo" / "deep" / "sae" / "sparsity.safetensors").write_bytes(b"not wanted")
    return tmp_path / "repo", written


def refusal(lm, text: str) -> str:
    with pytest.raises(EpoError) as caught:
        epo_jax.parse_feature(text, lm)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    assert message.startswith(f"--feature={text}: ")
    return message.removeprefix(f"--feature={text}: ")


def assert_same(feature, written, index) -> None:
    np.testing.assert_array_equal(feature.encoder, written.tensors["W_enc"][:, index])


def test_a_folder_of_a_repository_is_fetched_once_and_nothing_else(tiny, hub, repo):
    folder, written = repo
    hub.add("owner/name", folder)
    text = "sae:owner/name/deep/sae:5"
    assert_same(epo_jax.parse_feature(text, tiny), written, 5)
    assert sorted(set(hub.files())) == ["deep/sae/cfg.json", "deep/sae/sae_weights.safetensors"]
    hub.asked.clear()
    assert_same(epo_jax.parse_feature("sae:owner/name/deep/sae/sae_weights.safetensors:6", tiny), written, 6)
    assert hub.files() == []


def test_without_network_the_copy_in_the_cache_serves(tiny, hub, repo):
    folder, written = repo
    hub.add("owner/name", folder)
    text = "sae:owner/name/deep/sae:5"
    hub.status = 503
    message = refusal(tiny, text)
    assert "answered 503" in message
    assert message.endswith("there is no copy of it in the cache")
    hub.status = 0
    epo_jax.parse_feature(text, tiny)
    hub.status = 503
    assert_same(epo_jax.parse_feature(text, tiny), written, 5)
    assert "no copy" in refusal(tiny, "sae:owner/name/other:5")


def test_what_is_not_on_the_hub_is_told(tiny, hub, repo, monkeypatch):
    monkeypatch.setattr(sources, "_registry", lambda: None)
    hub.add("owner/name", repo[0])
    message = refusal(tiny, "sae:owner/name/other:5")
    assert message.startswith("other has no cfg.json with sae_weights.safetensors (SAELens), params.npz")
    assert message.endswith("folders that do: deep/sae")
    assert "top has no" in refusal(tiny, "sae:owner/name:5")
    message = refusal(tiny, "sae:gpt2-small-res-jb/blocks.8.hook_resid_pre:5")
    assert message.endswith("releases' names need the package: pip install sae-lens")
    for name in ("nothing", "/tmp/not/there", "../up/there", "a b/c/d"):
        assert f"there is no folder {name}; a hub's is given as owner/name/folder" in refusal(tiny, f"sae:{name}:5")


def test_gemma_scope_is_read_where_its_repository_says(tiny, hub, tmp_path):
    written = tiny_saes.write(tmp_path / "json", "jumprelu", POST, WIDTH)
    sites = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
    for kind, site in sites.items():
        folder = tmp_path / kind / "layer_2" / "width_16k" / "average_l0_71"
        folder.mkdir(parents=True)
        np.savez_compressed(
            folder / "params.npz", **{name: np.asfortranarray(value) for name, value in written.tensors.items()}
        )
        hub.add(f"google/gemma-scope-2b-pt-{kind}", tmp_path / kind)
        name = f"google/gemma-scope-2b-pt-{kind}/layer_2/width_16k/average_l0_71"
        for text in (f"sae:{name}:5", f"sae:{name}/params.npz:5"):
            feature = epo_jax.parse_feature(text, tiny)
            assert (feature.site, int(feature.layer)) == (f"blocks.{{l}}.{site}", 2)
            assert (feature.architecture, float(np.abs(feature.center).max())) == ("jumprelu", 0)
            assert float(feature.threshold) == written.tensors["threshold"][5]
            assert_same(feature, written, 5)
    folder = tmp_path / "2" / "attn_out_all" / "layer_1_width_16k_l0_big"
    folder.mkdir(parents=True)
    (written.folder / "sae_weights.safetensors").rename(folder / "params.safetensors")
    hub.add("google/gemma-scope-2-270m-pt", tmp_path / "2")
    feature = epo_jax.parse_feature("sae:google/gemma-scope-2-270m-pt/attn_out_all/layer_1_width_16k_l0_big:5", tiny)
    assert (feature.site, int(feature.layer)) == ("blocks.{l}.attn.hook_z", 1)
    assert_same(feature, written, 5)


def test_embeddings_and_transcoders_of_gemma_scope_are_refused(tiny, hub, tmp_path):
    for repo, folder in (("2b-pt-res", "embedding/width_4k/l0_6"), ("2b-pt-transcoders", "layer_2/width_16k/l0_6")):
        (tmp_path / repo / folder).mkdir(parents=True)
        np.savez(tmp_path / repo / folder / "params.npz", W_enc=np.zeros((2, 2)))
        hub.add(f"google/gemma-scope-{repo}", tmp_path / repo)
        assert "does not say what it was trained on" in refusal(tiny, f"sae:google/gemma-scope-{repo}/{folder}:5")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package sae_lens with a registry of its own: (releases) -> None."""
    folder = tmp_path / "packages" / "sae_lens"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('must not be imported')")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, "sae_lens", raising=False)

    def write(**releases: object) -> None:
        (folder / "pretrained_saes.yaml").write_text(json.dumps(releases))
        sources._registry.cache_clear()

    yield write
    sources._registry.cache_clear()


def release(path: str = "deep/sae", **more: object) -> dict[str, object]:
    return {"repo_id": "owner/name", "saes": [{"id": "blocks.1/x", "path": path, **more.pop("entry", {})}], **more}


def test_a_release_is_found_in_the_registry_of_sae_lens(tiny, hub, repo, package):
    folder, written = repo
    hub.add("owner/name", folder)
    package(known=release())
    assert_same(epo_jax.parse_feature("sae:known/blocks.1/x:5", tiny), written, 5)
    assert refusal(tiny, "sae:known/blocks.2/x:5") == "the release known has no blocks.2/x; it has blocks.1/x"
    assert refusal(tiny, "sae:other/blocks.2/x:5").endswith("sae-lens knows no such release")
    package(known=release(conversion_func="llama_scope"))
    message = refusal(tiny, "sae:known/blocks.1/x:5")
    assert "of the kind llama_scope, which are not read here" in message
    assert "sae_lens.SAE.from_pretrained('known', 'blocks.1/x').save_model(FOLDER)" in message


def test_what_the_registry_says_counts(tiny, hub, repo, package):
    folder, written = repo
    hub.add("owner/name", folder)
    config = {**written.config, "normalize_activations": "expected_average_only_in"}
    (written.folder / "cfg.json").write_text(json.dumps(config))
    hub.add("owner/name", folder)
    package(known=release(entry={"norm_scaling_factor": 0.25}))
    assert float(epo_jax.parse_feature("sae:known/blocks.1/x:5", tiny).scale) == 0.25
    assert "needs the factor of the activations" in refusal(tiny, "sae:owner/name/deep/sae:5")
    package(
        known=release(config_overrides={"normalize_activations": "layer_norm", "hook_name": "blocks.2.hook_mlp_out"})
    )
    feature = epo_jax.parse_feature("sae:known/blocks.1/x:5", tiny)
    assert (feature.normalization, feature.site, int(feature.layer)) == ("layer_norm", "blocks.{l}.hook_mlp_out", 2)


def old_layout(written, **config: object) -> None:
    """A configuration as SAELens wrote it before 3.19.2, which said nothing of the model's processing."""
    flat = {"hook_name": POST, "model_name": "tiny", **written.config, **config}
    del flat["metadata"]
    (written.folder / "cfg.json").write_text(json.dumps(flat))


def test_a_configuration_that_does_not_say_how_a_layer_norm_model_was_processed_is_refused(tiny, gpt2, repo):
    _, written = repo
    old_layout(written)
    text = written.text(5)
    message = refusal(gpt2, text)
    assert '"model_from_pretrained_kwargs": {"center_writing_weights": true}' in message
    # Where centering changes nothing, nothing need be said.
    assert not epo_jax.parse_feature(text, tiny).centered
    old_layout(written, normalize_activations="layer_norm")
    assert not epo_jax.parse_feature(text, gpt2).centered
    for said in (True, False):
        old_layout(written, **{LOADING: {"center_writing_weights": said}})
        assert epo_jax.parse_feature(text, gpt2).centered == said
        assert not epo_jax.parse_feature(text, tiny).centered
    # Version 3.19.2 and later load without processing, versions 1 and 2 with all of it.
    old_layout(written, **{LOADING: {}})
    assert not epo_jax.parse_feature(text, gpt2).centered
    flat = json.loads((written.folder / "cfg.json").read_text())
    flat["hook_point"], flat["hook_point_layer"] = flat.pop("hook_name").replace("1", "{layer}"), 1
    (written.folder / "cfg.json").write_text(json.dumps(flat))
    assert epo_jax.parse_feature(text, gpt2).centered


@pytest.mark.parametrize("version", [None, "2.1.3", "3.19.1"])
def test_a_rewritten_configuration_of_an_early_version_does_not_say_either(gpt2, tmp_path, version):
    written = tiny_saes.write(tmp_path, "standard", POST, WIDTH, metadata={"sae_lens_training_version": version})
    assert "does not say how the model was processed" in refusal(gpt2, written.text(5))
    written = tiny_saes.write(tmp_path, "standard", POST, WIDTH, metadata={"sae_lens_training_version": "3.19.2"})
    assert not epo_jax.parse_feature(written.text(5), gpt2).centered


def test_heads_outputs_without_value_biases_are_refused_where_the_model_has_some(tiny, gpt2, tmp_path):
    for processing, refused in (
        ({"fold_value_biases": True}, True),
        ({"center_writing_weights": True, "fold_ln": True}, False),
    ):
        written = tiny_saes.write(
            tmp_path / str(refused), "standard", "blocks.1.attn.hook_z", WIDTH, metadata={LOADING: processing}
        )
        assert not epo_jax.parse_feature(written.text(1), tiny).centered
        if refused:
            assert "processed by fold_value_biases, which is not done here" in refusal(gpt2, written.text(1))
        else:
            assert not epo_jax.parse_feature(written.text(1), gpt2).centered
    refactored = {"refactor_factored_attn_matrices": True}
    written = tiny_saes.write(tmp_path, "standard", "blocks.1.attn.hook_z", WIDTH, metadata={LOADING: refactored})
    assert "processed by refactor_factored_attn_matrices" in refusal(tiny, written.text(1))


def test_published_ones_of_processed_models_are_centered(gpt2, hub, repo, package):
    folder, written = repo
    old_layout(written)
    hub.add("jbloom/GPT2-Small-SAEs-Reformatted", folder)
    hub.add("owner/name", folder)
    package(jb=release(config_overrides={LOADING: {"center_writing_weights": True}}), plain=release())
    assert epo_jax.parse_feature("sae:jbloom/GPT2-Small-SAEs-Reformatted/deep/sae:5", gpt2).centered
    assert epo_jax.parse_feature("sae:jb/blocks.1/x:5", gpt2).centered
    # The registry lists those that were processed.
    assert not epo_jax.parse_feature("sae:plain/blocks.1/x:5", gpt2).centered
    assert "does not say how the model was processed" in refusal(gpt2, "sae:owner/name/deep/sae:5")


@pytest.mark.parametrize("head", [2, 5])
def test_one_head_can_be_read(tiny, tmp_path, head):
    config = {"metadata": {"hook_head_index": head}, "reshape_activations": "none"}
    written = tiny_saes.write(tmp_path, "standard", "blocks.1.attn.hook_z", WIDTH // 6, **config)
    feature = epo_jax.parse_feature(written.text(3), tiny)
    values = jnp.asarray(np.random.default_rng(0).standard_normal((6, 6)), jnp.float32)
    np.testing.assert_array_equal(feature.read(values), values[head])
    assert feature.name == written.text(3)


def test_a_head_that_there_is_not_is_refused(tiny, tmp_path):
    written = tiny_saes.write(
        tmp_path, "standard", "blocks.1.attn.hook_z", 6, metadata={"hook_head_index": 6}, reshape_activations="none"
    )
    assert refusal(tiny, written.text(3)) == "the model has no head 6; its heads are 0 to 5"
