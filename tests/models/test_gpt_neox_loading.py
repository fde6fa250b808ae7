"""Loading GPT-NeoX is strict: old spellings and buffers load, what cannot be read is one clear line; GGUF agrees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from spoiling import WEIGHTS, Save, assert_same_logits, change_config, change_tensors, refusal

import epo_jax


@pytest.fixture
def neox(neox_folder: Path, tmp_path: Path) -> Path:
    """A copy of a good model's folder, to be spoilt."""
    return Path(shutil.copytree(neox_folder, tmp_path / "neox"))


@pytest.mark.parametrize(
    "old",
    [
        {"rotary_pct": 0.25, "rotary_emb_base": 10000, "torch_dtype": "float16", "transformers_version": "4.24.0"},
        {"rotary_pct": 0.25},
        {"rotary_emb_base": 10000.0, "rope_scaling": None},
        {},
    ],
)
def test_old_spellings_load(old: dict[str, object], neox: Path, neox_torch: torch.nn.Module) -> None:
    drop = ("rope_parameters", "dtype", "attention_bias", "is_decoder", "pad_token_id", "hidden_dropout")
    change_config(neox, drop=drop, **old)
    assert_same_logits(neox, neox_torch)


def test_old_spellings_are_read(tmp_path: Path, save_neox: Save) -> None:
    rope = {"rope_type": "default", "rope_theta": 70.0, "partial_rotary_factor": 0.75}
    model = save_neox(tmp_path, rope_parameters=rope)
    change_config(tmp_path, drop=("rope_parameters",), rotary_pct=0.75, rotary_emb_base=70)
    assert_same_logits(tmp_path, model)


def test_buffers_of_old_files_are_left_out(neox: Path, neox_torch: torch.nn.Module) -> None:
    # Pythia's files hold its causal masks as truth values.
    buffers: dict[str, np.ndarray] = {}
    for layer in range(3):
        attention = f"gpt_neox.layers.{layer}.attention"
        buffers[f"{attention}.bias"] = np.tril(np.ones((1, 1, 64, 64), np.bool_))
        buffers[f"{attention}.masked_bias"] = np.asarray(-1e9, np.float32)
        buffers[f"{attention}.rotary_emb.inv_freq"] = np.ones(1, np.float32)
    change_tensors(neox, lambda tensors: tensors.update(buffers))
    assert_same_logits(neox, neox_torch)


def test_tied_head_saved_twice_loads_if_it_is_the_embedding(tmp_path: Path, save_neox: Save) -> None:
    model = save_neox(tmp_path, tie_word_embeddings=True)
    embedding = "gpt_neox.embed_in.weight"
    change_tensors(tmp_path, lambda tensors: tensors.update({"embed_out.weight": tensors[embedding].copy()}))
    assert_same_logits(tmp_path, model)
    change_tensors(tmp_path, lambda tensors: tensors.update({"embed_out.weight": tensors[embedding] + 1e-3}))
    assert f"embed_out.weight differs from {embedding}" in refusal(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"head_dim": 8},
        {"new_switch": True},
        {"sliding_window": 4},
        {"rope_scaling": {"type": "su", "factor": 2.0}, "rope_parameters": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25, "more": 1}},
    ],
)
def test_settings_that_are_not_implemented_are_refused_by_name(changes: dict[str, object], neox: Path) -> None:
    change_config(neox, **changes)
    assert next(iter(changes)).replace("rope_scaling", "rope_parameters") in refusal(neox)


@pytest.mark.parametrize(
    "name",
    [
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
        "max_position_embeddings",
    ],
)
def test_impossible_sizes_are_refused_and_never_allocated(name: str, neox: Path) -> None:
    for value in (-1, 0, 2**31 - 1, 2**40, 2**70, 1.5, True, "x", [], {}, float("inf"), float("nan")):
        if name == "max_position_embeddings" and value == 2**31 - 1:
            continue  # it costs nothing
        change_config(neox, **{name: value})
        refusal(neox)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("layer_norm_eps", [None, "x", -1.0, float("inf"), float("nan"), []]),
        ("tie_word_embeddings", [None, "x", 1]),
        ("attention_bias", [None, "x", 1]),
        ("use_parallel_residual", [None, "x", 1, []]),
        ("hidden_act", [None, 1, [], "mish"]),
        ("num_attention_heads", [7, 5, 48 * 2]),
        ("model_type", ["llama", "gpt2", None]),
    ],
)
def test_impossible_values_are_refused(name: str, values: list[object], neox: Path) -> None:
    for value in values:
        change_config(neox, **{name: value})
        refusal(neox)


# A share of 0.2 turns one component of eight, which has no partner; 0.1 turns none.
@pytest.mark.parametrize("share", [0.2, 0.1, 0.0, -0.25, 1.5, "x", True, None, [], float("nan"), float("inf")])
def test_impossible_rotary_shares_are_refused(share: object, neox: Path) -> None:
    change_config(neox, rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": share})
    refusal(neox)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("gpt_neox.layers.1.attention.query_key_value.weight", (48, 144)),
        ("gpt_neox.layers.1.attention.query_key_value.weight", (143, 48)),
        ("gpt_neox.layers.1.attention.query_key_value.weight", (48, 48)),
        ("gpt_neox.layers.1.attention.query_key_value.weight", ()),
        ("gpt_neox.layers.2.attention.query_key_value.bias", (48,)),
        ("gpt_neox.layers.2.attention.query_key_value.bias", (144, 1)),
        ("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", (48, 53)),
        ("gpt_neox.final_layer_norm.bias", (47,)),
        ("embed_out.weight", (48, 307)),
    ],
)
def test_wrong_shape_is_refused_by_name(name: str, shape: tuple[int, ...], neox: Path) -> None:
    change_tensors(neox, lambda tensors: tensors.update({name: np.zeros(shape, np.float32)}))
    message = refusal(neox)
    assert name in message
    assert str(shape) in message


def test_missing_and_extra_tensors_are_listed_once(neox: Path) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        del tensors["gpt_neox.layers.1.attention.query_key_value.weight"], tensors["gpt_neox.final_layer_norm.bias"]
        tensors["gpt_neox.layers.0.attention.more"] = np.ones(6, np.float32)

    change_tensors(neox, change)
    message = refusal(neox)
    assert message.count("gpt_neox.layers.1.attention.query_key_value.weight") == 1
    assert "gpt_neox.final_layer_norm.bias" in message
    assert "gpt_neox.layers.0.attention.more" in message


@pytest.mark.parametrize("changes", [{"attention_bias": False}, {"num_hidden_layers": 2}, {"num_hidden_layers": 4}])
def test_config_that_asks_for_other_tensors_is_refused(changes: dict[str, object], neox: Path) -> None:
    change_config(neox, **changes)
    assert "gpt_neox.layers." in refusal(neox)


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
}


def write_gguf(folder: Path, **changes: object) -> Path:
    """Write a folder's model as llama.cpp's converter does: queries of all heads, then keys, then values."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    heads, width, size = config["num_attention_heads"], config["hidden_size"], config["vocab_size"]
    rope = config["rope_parameters"]
    vocabulary = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    metadata: dict[str, Any] = {
        "gptneox.context_length": config["max_position_embeddings"],
        "gptneox.embedding_length": width,
        "gptneox.block_count": config["num_hidden_layers"],
        "gptneox.feed_forward_length": config["intermediate_size"],
        "gptneox.rope.dimension_count": int(rope["partial_rotary_factor"] * (width // heads)),
        "gptneox.attention.head_count": heads,
        "gptneox.use_parallel_residual": config["use_parallel_residual"],
        "gptneox.attention.layer_norm_epsilon": config["layer_norm_eps"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "olmo",
        "tokenizer.ggml.tokens": [vocabulary.get(index, f"<unused{index}>") for index in range(size)],
        "tokenizer.ggml.token_type": [3 if index == 0 else 1 if index in vocabulary else 5 for index in range(size)],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in tokenizer["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
    }
    if rope["rope_theta"] != 10000.0:
        metadata["gptneox.rope.freq_base"] = rope["rope_theta"]
    metadata |= changes
    names = {"gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm", "embed_out": "output"}
    for layer in range(config["num_hidden_layers"]):
        names |= {f"gpt_neox.layers.{layer}.{theirs}": f"blk.{layer}.{ours}" for theirs, ours in GGUF_NAMES.items()}
    writer = gguf.GGUFWriter(folder / "model.gguf", "gptneox")
    for key, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
            add[type(value)](key, value)
    for name, tensor in load_file(folder / WEIGHTS).items():
        module, _, kind = name.rpartition(".")
        ours = names[module]
        if ours.endswith("attn_qkv"):
            split = tensor.reshape(heads, 3, width // heads, *tensor.shape[1:])
            tensor = np.concatenate([split[:, part].reshape(width, *tensor.shape[1:]) for part in range(3)])
        writer.add_tensor(f"{ours}.{kind}", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_parallel_residual": False, "tie_word_embeddings": True, "num_attention_heads": 3},
        {"attention_bias": False, "layer_norm_eps": 0.25},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 70.0, "partial_rotary_factor": 1.0}},
    ],
)
def test_gguf_gives_the_logits_of_the_folder(changes: dict[str, Any], tmp_path: Path, save_neox: Save) -> None:
    model = save_neox(tmp_path, **changes)
    assert_same_logits(write_gguf(tmp_path), model)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("gptneox.block_count", None, "lacks gptneox.block_count"),
        ("gptneox.use_parallel_residual", None, "lacks gptneox.use_parallel_residual"),
        ("gptneox.use_parallel_residual", 1, "parallel_residual=1"),
        ("gptneox.attention.head_count", 0, "heads=0"),
        ("gptneox.attention.head_count", 7, "7 heads do not divide the width 48"),
        ("gptneox.rope.dimension_count", 3, "dimension_count=3"),
        ("gptneox.rope.dimension_count", 10, "dimension_count=10 is no even number of a head's 8"),
        ("gptneox.rope.freq_base", 0.0, "rope_theta"),
        ("gptneox.rope.scaling.type", "linear", "lacks factor"),
        ("gptneox.rope.scaling.type", "new", "gptneox.rope.scaling.type='new'"),
        ("gptneox.attention.head_count_kv", 2, "gptneox.attention.head_count_kv"),
        ("gptneox.feed_forward_length", 2**31 - 1, "ffn_"),
        ("gptneox.embedding_length", 54, ""),
    ],
)
def test_gguf_metadata_that_cannot_be_used_is_refused(key: str, value: object, says: str, neox: Path) -> None:
    assert says in refusal(write_gguf(neox, **{key: value}))


def test_unsupported_architecture_lists_the_family(neox: Path) -> None:
    change_config(neox, architectures=["GPTNeoXForSequenceClassification"])
    with pytest.raises(epo_jax.EpoError, match=r"supported are: .*GPTNeoXForCausalLM"):
        epo_jax.load_model(str(neox))
