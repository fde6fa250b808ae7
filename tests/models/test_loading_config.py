"""A name or a config.json that cannot be used is one clear line; old spellings load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spoiling import (
    WEIGHTS,
    Save,
    assert_same_logits,
    change_config,
    refusal,
)

import epo_jax


@pytest.mark.parametrize("name", ["smollm3", "org/model", "x" * 5000, "~no-such-user/model", "a\0b"])
def test_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(epo_jax.EpoError, match="smollm2-135m") as caught:
        epo_jax.load_model(name)
    assert "\n" not in str(caught.value)


def test_unknown_dtype_lists_the_known_ones(tiny_folder: Path) -> None:
    with pytest.raises(epo_jax.EpoError, match=r"--dtype=int8.*float32, bfloat16, float16"):
        epo_jax.load_model(str(tiny_folder), dtype="int8")


def test_file_of_another_kind_is_refused(folder: Path) -> None:
    assert "does not end in .gguf" in refusal(folder / WEIGHTS)


def test_folder_without_config_is_refused(tmp_path: Path) -> None:
    assert "no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "not JSON", "[1, 2]", "null", "\xff", "[" * 100_000])
def test_config_that_is_no_json_object_is_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("MixtralForCausalLM", "mixtral"), ("LlamaForSequenceClassification", "llama"), ("NewForCausalLM", "brand_new")],
)
def test_unsupported_architecture_is_named_with_those_supported(architecture: str, kind: str, folder: Path) -> None:
    change_config(folder, architectures=[architecture], model_type=kind)
    message = refusal(folder)
    assert architecture in message
    assert "LlamaForCausalLM" in message


@pytest.mark.parametrize("architectures", [None, [], "LlamaForCausalLM", [None], {}])
def test_config_without_architecture_is_refused(architectures: object, folder: Path) -> None:
    change_config(folder, architectures=architectures)
    assert "lacks architectures" in refusal(folder)


def test_config_without_model_type_is_refused(folder: Path) -> None:
    change_config(folder, drop=("model_type",))
    assert "lacks model_type" in refusal(folder)


def test_model_type_of_another_architecture_is_refused(folder: Path) -> None:
    change_config(folder, model_type="gpt2")
    assert "'gpt2'" in refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [{"sliding_window": 4}, {"new_switch": True}, {"quantization_config": {"bits": 4}}, {"logit_scale": 2.0}],
)
def test_unknown_attribute_is_refused_by_name(changes: dict[str, object], folder: Path) -> None:
    change_config(folder, **changes)
    assert next(iter(changes)) in refusal(folder)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
        {"rope_parameters": {"rope_type": "proportional", "factor": 2.0, "rope_theta": 10000.0}},
        {"rope_parameters": {"rope_type": "llama3", "factor": 2.0, "rope_theta": 10000.0}},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0, "alpha": 1000.0}, "rope_parameters": None},
        {"rope_interleaved": True},
    ],
)
def test_other_rotary_positions_are_refused(rope: dict[str, object], folder: Path) -> None:
    change_config(folder, **rope)
    assert "rope" in refusal(folder)


def test_unknown_activation_lists_the_known_ones(folder: Path) -> None:
    change_config(folder, hidden_act="mish")
    assert "gelu_pytorch_tanh" in refusal(folder)


@pytest.mark.parametrize(
    "old",
    [
        {"rope_theta": 10000.0},
        {"rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "bfloat16"},
        {"rope_theta": 10000},
        {},
    ],
)
def test_old_spellings_load(old: dict[str, object], folder: Path, tiny_torch: torch.nn.Module) -> None:
    change_config(folder, drop=("rope_parameters", "dtype"), **old)
    assert_same_logits(folder, tiny_torch)


def test_old_spelling_of_the_rotary_base_is_read(tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path, rope_parameters={"rope_type": "default", "rope_theta": 50.0})
    change_config(tmp_path, drop=("rope_parameters",), rope_theta=50.0)
    assert_same_logits(tmp_path, model)


def test_old_config_without_head_counts_of_its_own_loads(tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path)
    change_config(tmp_path, drop=("num_key_value_heads", "head_dim", "attention_bias", "mlp_bias"))
    assert_same_logits(tmp_path, model)


SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)


@pytest.mark.parametrize("name", SIZES)
def test_impossible_sizes_are_refused_and_never_allocated(name: str, folder: Path) -> None:
    for value in (-1, 0, 2**31 - 1, 2**40, 2**70, 1.5, True, "x", [], {}, float("inf"), float("nan")):
        if name == "max_position_embeddings" and value == 2**31 - 1:
            continue  # it costs nothing
        change_config(folder, **{name: value})
        refusal(folder)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rms_norm_eps", [None, "x", -1.0, float("inf"), float("nan"), []]),
        ("tie_word_embeddings", [None, "x", 1]),
        ("attention_bias", [None, "x", 1]),
        ("hidden_act", [None, 1, []]),
        ("rope_parameters", ["x", [1], {"rope_theta": 0.0}, {"rope_theta": "x"}, {"rope_theta": -1.0}]),
        ("rope_parameters", [{"rope_type": "none"}, {"rope_type": ["default"]}, {"rope_theta": float("inf")}]),
        ("dtype", ["none", [], "float7"]),
    ],
)
def test_impossible_values_are_refused(name: str, values: list[object], folder: Path) -> None:
    for value in values:
        change_config(folder, **{name: value})
        refusal(folder)


def test_odd_heads_and_groups_that_do_not_divide_are_refused(folder: Path) -> None:
    change_config(folder, head_dim=7)
    refusal(folder)
    change_config(folder, head_dim=6, num_key_value_heads=4)
    assert "4 key and value heads do not divide 6 heads" in refusal(folder)
