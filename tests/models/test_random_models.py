"""Random models: shipped shapes are the published ones, weights are the same every time, and bad names are refused."""

from __future__ import annotations

import importlib.resources
import json
import math
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import assert_dtypes
from spoiling import change_config, refusal

import epo_jax
from epo_jax.models.config import DTYPES
from epo_jax.models.decoder import abstract_decoder
from epo_jax.models.random_model import random_config, shipped_configs
from epo_jax.models.tokenizers import adds_bos, allowed_tokens, token_texts

PUBLISHED = {
    "llama-8b": 8_030_261_248,
    "gemma-2-27b": 27_227_128_320,
    "gemma-2-9b": 9_241_705_984,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "qwen3-32b": 32_762_123_264,
    "pythia-1.4b": 1_414_647_808,
    "pythia-12b": 11_846_072_320,
    "pythia-70m": 70_426_624,
}
TINY = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "hidden_act": "gelu",
    "hidden_size": 48,
    "intermediate_size": 64,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "num_attention_heads": 3,
    "num_hidden_layers": 4,
    "rotary_pct": 0.5,
    "tie_word_embeddings": False,
    "use_parallel_residual": True,
    "vocab_size": 301,
}


def write(path: Path, **changes: object) -> str:
    path.write_text(json.dumps(TINY | changes))
    return f"random:{path}"


@pytest.fixture(scope="module")
def tiny_random(tmp_path_factory: pytest.TempPathFactory) -> epo_jax.LanguageModel:
    return epo_jax.load_model(write(tmp_path_factory.mktemp("random") / "tiny.json"), dtype="float32")


def test_shipped_configs_are_known() -> None:
    assert shipped_configs() == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_configs_have_the_published_parameter_counts(name: str) -> None:
    config, deviation = random_config(f"random:{name}", "bfloat16")
    leaves = jax.tree.leaves(abstract_decoder(config)[1])
    assert sum(math.prod(leaf.shape) for leaf in leaves) == PUBLISHED[name]
    # Norms are float32, and they alone.
    assert {leaf.dtype for leaf in leaves} == {np.dtype(DTYPES["bfloat16"]), np.dtype(np.float32)}
    assert deviation == 0.02


def test_shipped_configs_are_package_data() -> None:
    # A test runs on the sources; a wheel holds what pyproject.toml names.
    root = Path(epo_jax.__file__).parents[1]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["epo_jax"]
    named = {path.stem for pattern in patterns for path in (root / "epo_jax").glob(pattern)}
    assert named.issuperset(shipped_configs())


def test_shipped_configs_are_found_by_importlib() -> None:
    folder = importlib.resources.files("epo_jax.models") / "configs"
    assert (folder / "pythia-70m.json").is_file()


def test_weights_have_the_right_scale(tiny_random: epo_jax.LanguageModel) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tiny_random.params):
        name, values = jax.tree_util.keystr(path), np.asarray(leaf)
        if "scale" in name:
            np.testing.assert_array_equal(values, 1)
        elif "bias" in name:
            np.testing.assert_array_equal(values, 0)
        else:
            assert values.std() == pytest.approx(0.02, rel=0.1)
            assert abs(values.mean()) < 0.002
            # No layer, and no parameter, repeats another's numbers.
            assert len(np.unique(values)) > 0.98 * values.size


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_activations_are_finite_and_weights_are_the_same_twice(dtype: str, tiny_random: epo_jax.LanguageModel) -> None:
    first, second = (epo_jax.load_model(tiny_random.source, dtype=dtype) for _ in range(2))
    assert_dtypes(first, dtype)
    for one, other, whole in zip(*(jax.tree.leaves(m.params) for m in (first, second, tiny_random)), strict=True):
        np.testing.assert_array_equal(one, other)
        # Every dtype has the same weights, rounded.
        # Two programs may differ in the last bit before that.
        np.testing.assert_allclose(np.float32(one), whole.astype(one.dtype), rtol=float(jnp.finfo(one.dtype).eps))
    found = np.asarray(epo_jax.logits(first, np.arange(60).reshape(3, 20)))
    assert np.isfinite(found).all()
    assert 0.05 < found.std() < 5


def test_a_llama_of_any_shape_loads(tiny_folder: Path) -> None:
    lm = epo_jax.load_model(f"random:{tiny_folder / 'config.json'}", dtype="float32")
    assert (lm.config.norm, lm.config.kv_heads, lm.config.layers) == ("rms", 2, 3)
    assert np.isfinite(epo_jax.logits(lm, [[1, 2, 3]])).all()
    assert np.asarray(lm.params["embedding"]["embedding"][...]).std() == pytest.approx(0.2, rel=0.1)


def test_source_is_the_name_as_given(tiny_random: epo_jax.LanguageModel) -> None:
    assert tiny_random.source.startswith("random:")
    assert tiny_random.source.endswith("tiny.json")


def test_tokenizer_round_trips(tiny_random: epo_jax.LanguageModel) -> None:
    tokenizer = tiny_random.tokenizer
    assert len(tokenizer) == 301
    ids = np.random.default_rng(0).permutation(301).tolist()
    text = tokenizer.decode(ids)
    assert text.split() == [f"t{index}" for index in ids]
    assert tokenizer.encode(text) == tokenizer.encode(text, add_special_tokens=False) == ids
    assert token_texts(tokenizer, ids) == [f"t{index}" for index in ids]
    assert not adds_bos(tokenizer)
    assert allowed_tokens(tokenizer, 301).all()


@pytest.mark.parametrize("text", ["dog", "t301", "t1t2", "t1 t2", "", "t01", "T1"])
def test_text_that_is_not_one_token_is_no_logit_feature(text: str, tiny_random: epo_jax.LanguageModel) -> None:
    with pytest.raises(epo_jax.EpoError, match="must be one token"):
        epo_jax.parse_feature(f"logit:{text}", tiny_random)


@pytest.mark.parametrize("text", ["t123", " t123", "t0", "t300"])
def test_a_token_is_a_logit_feature(text: str, tiny_random: epo_jax.LanguageModel) -> None:
    feature = epo_jax.parse_feature(f"logit:{text}", tiny_random)
    assert int(feature.token) == int(text.strip()[1:])


def test_a_dream_runs(tiny_random: epo_jax.LanguageModel) -> None:
    config = epo_jax.EPOConfig(iterations=2, population=2, children=2, length=4, top_k=16)
    result = epo_jax.dream(tiny_random, epo_jax.parse_feature("L2.N5", tiny_random), config, seed=0)
    assert np.isfinite(result.history.feature).all()
    for ids, text in zip(result.frontier.ids, result.frontier.text, strict=True):
        assert tiny_random.tokenizer.encode(text) == ids.tolist()


@pytest.mark.parametrize("name", ["", "pythia", "Pythia-70m", "pythia-70m.json", "..", "/", "no/such.json", "x" * 5000])
def test_unknown_names_list_the_shipped_ones(name: str) -> None:
    with pytest.raises(epo_jax.EpoError, match=r"--model=random:.*llama-8b, pythia-1.4b, pythia-12b, pythia-70m") as e:
        epo_jax.load_model(f"random:{name}")
    assert "\n" not in str(e.value)


def test_unknown_models_are_told_of_random_ones() -> None:
    with pytest.raises(epo_jax.EpoError, match=r"random:.*pythia-70m"):
        epo_jax.load_model("pythia-70m")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "'MambaForCausalLM' is not supported"),
        ({"architectures": None}, "lacks architectures"),
        ({"new_switch": 3}, "new_switch"),
        ({"initializer_range": 0.0}, "initializer_range"),
        ({"initializer_range": "x"}, "initializer_range"),
        ({"hidden_size": 47}, ""),
        ({"num_hidden_layers": 2**31 - 1}, "GiB"),
        ({"intermediate_size": 2**31 - 1}, "GiB"),
        ({"hidden_size": 3 * 2**20, "intermediate_size": 2**22}, "GiB"),
    ],
)
def test_configs_that_cannot_be_used_are_refused(changes: dict[str, object], says: str, tmp_path: Path) -> None:
    assert says in refusal(write(tmp_path / "c.json", **changes))


def test_files_that_are_no_config_are_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "c.json").write_text("[1]")
    assert "c.json" in refusal(f"random:{tmp_path / 'c.json'}")
    assert "neither a shipped configuration" in refusal(f"random:{folder}")
    change_config(folder, hidden_act="mish")
    assert "hidden_act='mish'" in refusal(f"random:{folder / 'config.json'}")
