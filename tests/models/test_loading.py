"""Loading is strict: what is read gives PyTorch's logits, and what cannot be read is one clear line."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import epo_jax

Save = Callable[..., torch.nn.Module]
IDS = np.random.default_rng(0).integers(0, 307, (2, 9))
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def refusal(model: Path | str) -> str:
    """The one line that refuses a model, soon and without allocating much."""
    old = signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(60)
    tracemalloc.start()
    try:
        with pytest.raises(epo_jax.EpoError) as caught:
            epo_jax.load_model(str(model), dtype="float32")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert len(message) < 600
    assert peak < 64 * 2**20
    return message


def outcome(model: Path) -> str:
    """The line that refuses a model, or nothing."""
    try:
        epo_jax.load_model(str(model), dtype="float32")
    except epo_jax.EpoError as error:
        return str(error)
    return ""


def _too_slow(_signal: int, _frame: object) -> None:
    raise AssertionError("loading hangs")


def assert_same_logits(model: Path, expected: torch.nn.Module) -> None:
    with torch.no_grad():
        wanted = expected(torch.from_numpy(IDS)).logits.numpy()
    found = epo_jax.logits(epo_jax.load_model(str(model), dtype="float32"), IDS)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of a good model's folder, to be spoilt."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change_config(folder: Path, drop: tuple[str, ...] = (), **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if name not in drop}))


def change_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


# Names and files


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


# config.json


def test_folder_without_config_is_refused(tmp_path: Path) -> None:
    assert "no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "not JSON", "[1, 2]", "null", "\xff", "[" * 100_000])
def test_config_that_is_no_json_object_is_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("MistralForCausalLM", "mistral"), ("LlamaForSequenceClassification", "llama"), ("NewForCausalLM", "brand_new")],
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
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": None},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "rope_parameters": None},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
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


# safetensors


def test_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert f"no {WEIGHTS}" in refusal(folder)


def test_pickles_are_refused_unread(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    message = refusal(folder)
    assert "pytorch_model.bin" in message
    assert "pickle" in message


def test_missing_and_extra_tensors_are_listed_together(folder: Path) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        del tensors["model.norm.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(6, np.float32)

    change_tensors(folder, change)
    message = refusal(folder)
    assert "model.norm.weight" in message
    assert "model.layers.1.mlp.up_proj.weight" in message
    assert "q_norm" in message


@pytest.mark.parametrize("change", [{"num_hidden_layers": 2}, {"num_hidden_layers": 4}, {"attention_bias": True}])
def test_config_that_asks_for_other_tensors_is_refused(change: dict[str, object], folder: Path) -> None:
    change_config(folder, **change)
    assert "model.layers." in refusal(folder)


def test_many_missing_tensors_are_counted(folder: Path) -> None:
    change_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "layers" in name][:0])
    assert "more" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.norm.weight", (35,)),
        ("model.norm.weight", (36, 1)),
        ("model.layers.2.mlp.up_proj.weight", (36, 53)),
        ("model.layers.0.self_attn.k_proj.weight", (6, 36)),
        ("model.embed_tokens.weight", (308, 36)),
        ("lm_head.weight", ()),
        ("lm_head.weight", (0, 36)),
    ],
)
def test_wrong_shape_is_refused_by_name(name: str, shape: tuple[int, ...], folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({name: np.zeros(shape, np.float32)}))
    message = refusal(folder)
    assert name in message
    assert str(shape) in message


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.bool_])
def test_tensor_that_holds_no_floats_is_refused(dtype: type, folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": np.ones(36, dtype)}))
    assert "model.norm.weight" in refusal(folder)


def test_rotary_frequencies_of_old_files_are_left_out(folder: Path, tiny_torch: torch.nn.Module) -> None:
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32)}
    change_tensors(folder, lambda tensors: tensors.update(buffer))
    assert_same_logits(folder, tiny_torch)


def test_tied_head_that_differs_from_the_embedding_is_refused(tmp_path: Path, save_llama: Save) -> None:
    # transformers would not tie them, so the head that the model was trained with is not the embedding.
    save_llama(tmp_path, tie_word_embeddings=True)

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1e-3

    change_tensors(tmp_path, change)
    assert "lm_head.weight differs from model.embed_tokens.weight" in refusal(tmp_path)


@pytest.mark.parametrize("left", [0, 1, 7, 8, 9, 200, 0.3, 0.9, -1])
def test_truncated_safetensors_is_refused(left: float, folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: int(left * len(whole)) if 0 < left < 1 else int(left)])
    assert WEIGHTS in refusal(folder)


def test_corrupt_safetensors_headers_are_refused(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    entry = header["model.norm.weight"]

    def packed(changed: object) -> bytes:
        text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + data

    def spoilt(**changes: object) -> bytes:
        return packed(header | {"model.norm.weight": entry | changes})

    begin, end = entry["data_offsets"]
    for content in (
        *(struct.pack("<Q", lie) + whole[8:] for lie in (0, 1, length - 1, length + 1, 10**8, 2**40, 2**64 - 1)),
        whole[:8] + b"\xff" * length + data,
        packed(b"{}"),
        packed(b"[]"),
        packed(b"null"),
        packed(b"[" * 5000),
        spoilt(dtype="F31"),
        spoilt(dtype=3),
        spoilt(shape=[35]),
        spoilt(shape=[2**62, 36]),
        spoilt(shape=[-36]),
        spoilt(data_offsets=[begin, end + 2**40]),
        spoilt(data_offsets=[end, begin]),
        spoilt(data_offsets=[begin + 4, end]),
        whole + b"more",
    ):
        (folder / WEIGHTS).write_bytes(content)
        refusal(folder)


@pytest.fixture
def sharded(folder: Path, tiny_torch: torch.nn.Module) -> Path:
    (folder / WEIGHTS).unlink()
    tiny_torch.save_pretrained(folder, max_shard_size="60KB")
    return folder


def change_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "", "a\0b", "."]
)
def test_index_that_points_outside_the_folder_is_refused(name: str, sharded: Path, tiny_folder: Path) -> None:
    for place in ("..", "sub"):
        (sharded / place).mkdir(exist_ok=True)
        shutil.copy(tiny_folder / WEIGHTS, sharded / place / WEIGHTS)
    change_index(sharded, lambda index: index["weight_map"].update({"lm_head.weight": name}))
    assert INDEX in refusal(sharded)


def test_index_that_names_a_missing_file_is_refused(sharded: Path) -> None:
    change_index(sharded, lambda index: index["weight_map"].update({"lm_head.weight": "model-9.safetensors"}))
    assert "model-9.safetensors" in refusal(sharded)


@pytest.mark.parametrize("weights", [None, [], {"lm_head.weight": 3}, {}, "model.safetensors"])
def test_index_without_a_table_is_refused(weights: object, sharded: Path) -> None:
    change_index(sharded, lambda index: index.update(weight_map=weights))
    refusal(sharded)


def test_index_that_is_not_json_is_refused(sharded: Path) -> None:
    (sharded / INDEX).write_text("{")
    assert INDEX in refusal(sharded)


def test_missing_and_truncated_shards_are_refused(sharded: Path) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-8])
    assert shard.name in refusal(sharded)
    shard.unlink()
    assert shard.name in refusal(sharded)


def test_tensor_in_two_shards_is_refused(sharded: Path) -> None:
    one, other, *_ = sorted(sharded.glob("model-*.safetensors"))
    name, tensor = next(iter(load_file(one).items()))
    save_file(load_file(other) | {name: tensor}, other)
    message = refusal(sharded)
    assert name in message
    assert one.name in message


# GGUF


def paired(tensor: np.ndarray, heads: int) -> np.ndarray:
    """Rows of query and key as llama.cpp's converter orders them."""
    split = tensor.reshape(heads, 2, len(tensor) // heads // 2, *tensor.shape[1:])
    return split.swapaxes(1, 2).reshape(tensor.shape)


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_tensors(folder: Path) -> dict[str, np.ndarray]:
    config = json.loads((folder / "config.json").read_text())
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for layer in range(config["num_hidden_layers"]):
        names |= {f"model.layers.{layer}.{theirs}": f"blk.{layer}.{ours}" for theirs, ours in GGUF_NAMES.items()}
    tensors = {}
    for name, tensor in load_file(folder / WEIGHTS).items():
        module, _, kind = name.rpartition(".")
        ours = names[module]
        part = ours.rpartition(".")[2]
        tensors[f"{ours}.{kind}"] = paired(tensor, heads[part]) if part in heads else tensor
    return tensors


def gguf_metadata(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    size = config["vocab_size"]
    return {
        "llama.block_count": config["num_hidden_layers"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.key_length": config["head_dim"],
        "llama.attention.value_length": config["head_dim"],
        "llama.rope.dimension_count": config["head_dim"],
        "llama.rope.freq_base": config["rope_parameters"]["rope_theta"],
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "llama.vocab_size": size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [vocabulary.get(index, f"<unused{index}>") for index in range(size)],
        "tokenizer.ggml.token_type": [3 if index == 0 else 1 if index in vocabulary else 5 for index in range(size)],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in tokenizer["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
    }


def write_gguf(
    path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray], architecture: str = "llama"
) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_string(key, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def good(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return write_gguf(path, gguf_metadata(tiny_folder), gguf_tensors(tiny_folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 6, "num_key_value_heads": 2},
        {"num_attention_heads": 3, "tie_word_embeddings": True},
        {"num_attention_heads": 6, "num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
        {"head_dim": 8, "rope_parameters": {"rope_type": "default", "rope_theta": 70.0}, "rms_norm_eps": 0.25},
    ],
)
def test_gguf_gives_the_logits_of_the_folder(changes: dict[str, Any], tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path, **changes)
    tensors = gguf_tensors(tmp_path)
    assert ("output.weight" in tensors) == (not changes.get("tie_word_embeddings", False))
    assert_same_logits(write_gguf(tmp_path / "m.gguf", gguf_metadata(tmp_path), tensors), model)


def test_gguf_without_optional_keys_loads(tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path)
    metadata = gguf_metadata(tmp_path)
    for key in ("attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count"):
        del metadata[f"llama.{key}"]
    del metadata["llama.rope.freq_base"], metadata["llama.vocab_size"]
    assert_same_logits(write_gguf(tmp_path / "m.gguf", metadata, gguf_tensors(tmp_path)), model)


def test_gguf_of_half_precision_loads(tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path)
    tensors = {name: t.astype(np.float16) if t.ndim == 2 else t for name, t in gguf_tensors(tmp_path).items()}
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data.half().float()
    assert_same_logits(write_gguf(tmp_path / "m.gguf", gguf_metadata(tmp_path), tensors), model)


def test_unsupported_gguf_architecture_is_named_with_those_supported(tiny_folder: Path, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", gguf_metadata(tiny_folder), gguf_tensors(tiny_folder), "mamba")
    message = refusal(path)
    assert "'mamba'" in message
    assert "llama" in message.partition("supported are")[2]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("llama.block_count", None, "lacks llama.block_count"),
        ("llama.block_count", 0, "layers=0"),
        ("llama.block_count", 2, "blk.2."),
        ("llama.block_count", 4, "blk.3."),
        ("llama.block_count", 2**31 - 1, "layers"),
        ("llama.block_count", 2**32 - 1, "layers"),
        ("llama.block_count", "three", "layers='three'"),
        ("llama.embedding_length", 0, "width=0"),
        ("llama.embedding_length", 2**31 - 1, ""),
        ("llama.feed_forward_length", [53, 53, 53], "mlp_width"),
        ("llama.feed_forward_length", 2**31 - 1, "ffn_"),
        ("llama.attention.head_count", 0, "heads=0"),
        ("llama.attention.head_count", [6, 6, 6], "heads"),
        ("llama.attention.head_count_kv", [2, 2, 2], "kv_heads"),
        ("llama.attention.head_count_kv", 0, "kv_heads=0"),
        ("llama.attention.head_count_kv", 4, "do not divide"),
        ("llama.attention.key_length", 8, ""),
        ("llama.rope.dimension_count", 4, "dimension_count"),
        ("llama.rope.freq_base", "x", "rope_theta"),
        ("llama.rope.freq_base", 0.0, "rope_theta"),
        ("llama.attention.layer_norm_rms_epsilon", float("nan"), "norm_eps"),
        ("llama.rope.scaling.type", "linear", "llama.rope.scaling.type"),
        ("llama.expert_count", 8, "llama.expert_count"),
        ("tokenizer.ggml.tokens", None, "tokenizer.ggml.tokens"),
        ("tokenizer.ggml.tokens", 7, "tokenizer.ggml.tokens"),
        ("tokenizer.ggml.tokens", ["a", "b"], "tokenizer.ggml"),
        ("tokenizer.ggml.model", "t5", "'t5'"),
        ("tokenizer.ggml.pre", "new", "'new'"),
        ("split.count", 3, "3 parts"),
        ("split.count", "x", "parts"),
    ],
)
def test_gguf_metadata_that_cannot_be_used_is_refused(
    key: str, value: object, says: str, tiny_folder: Path, tmp_path: Path
) -> None:
    metadata = gguf_metadata(tiny_folder) | {key: value}
    metadata = {name: entry for name, entry in metadata.items() if entry is not None}
    assert says in refusal(write_gguf(tmp_path / "m.gguf", metadata, gguf_tensors(tiny_folder)))


def test_gguf_with_odd_heads_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    metadata = gguf_metadata(tiny_folder)
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        metadata[f"llama.{key}"] = 7
    path = write_gguf(tmp_path / "m.gguf", metadata, gguf_tensors(tiny_folder))
    assert "head width of 7 is odd" in refusal(path)


def test_gguf_tensors_that_do_not_fit_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    metadata, tensors = gguf_metadata(tiny_folder), gguf_tensors(tiny_folder)
    norm = "output_norm.weight"
    for change, says in (
        ({norm: None}, f"lacks {norm}"),
        ({"rope_freqs.weight": np.ones(3, np.float32)}, "rope_freqs.weight"),
        ({"blk.0.attn_q.bias": np.ones(36, np.float32)}, "blk.1.attn_q.bias"),
        ({norm: np.ones(35, np.float32)}, norm),
        ({norm: np.ones(36, np.int32)}, norm),
        ({"blk.1.attn_q.weight": np.ones((35, 36), np.float32)}, "blk.1.attn_q.weight"),
        ({"blk.1.attn_q.weight": np.ones((18, 72), np.float32)}, "blk.1.attn_q.weight"),
        ({"token_embd.weight": np.ones((306, 36), np.float32)}, "token_embd.weight"),
    ):
        changed = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
        path = tmp_path / "m.gguf"
        assert says in refusal(write_gguf(path, metadata, changed))


@pytest.mark.parametrize("left", [0, 1, 3, 4, 7, 8, 15, 20, 24, 30, 60, 500, 0.05, 0.2, 0.5, 0.9, -33])
def test_truncated_gguf_is_refused(left: float, good: Path, tmp_path: Path) -> None:
    whole = good.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(left * len(whole)) if 0 < left < 1 else int(left)])
    message = refusal(path)
    assert "cut.gguf" in message
    assert "truncated or corrupt" in message


@pytest.mark.parametrize("magic", [b"", b"GGUF", b"GGUF\3\0\0\0", b"GGUF\3\0\0\0" + b"\1" + b"\0" * 7])
def test_gguf_of_random_bytes_is_refused(magic: bytes, tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    for seed in range(5):
        path.write_bytes(magic + np.random.default_rng(seed).bytes(4096))
        assert "truncated or corrupt" in refusal(path)


def header(tensors: int, keys: int, *entries: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + b"".join(entries)


def entry(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


U8, U32, STRING, ARRAY = 0, 4, 8, 9
HUGE = 2**62


@pytest.mark.parametrize(
    "content",
    {
        "keys": header(0, HUGE),
        "tensors": header(HUGE, 0),
        "string": header(0, 1, entry("a", STRING, struct.pack("<Q", HUGE))),
        "key": header(0, 1, struct.pack("<Q", HUGE)),
        "array": header(0, 1, entry("a", ARRAY, struct.pack("<IQ", U8, HUGE))),
        "array of strings": header(0, 1, entry("a", ARRAY, struct.pack("<IQ", STRING, HUGE))),
        "array over the end": header(0, 1, entry("a", ARRAY, struct.pack("<IQ", U32, 1000) + b"\1" * 1200)),
        "empty arrays": header(0, 1, entry("a", ARRAY, struct.pack("<IQ", ARRAY, HUGE) + b"\0" * 64)),
        "arrays in arrays": header(0, 1, entry("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000)),
        "kind": header(0, 1, entry("a", 77, b"")),
        "twice": header(0, 2, entry("a", U8, b"\1"), entry("a", U8, b"\1")),
        "alignment": header(0, 1, entry("general.alignment", U32, struct.pack("<I", 0))),
        "not UTF-8": header(0, 1, struct.pack("<Q", 1) + b"\xff" + struct.pack("<IB", U8, 1)),
        "dimensions": header(1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<I", 2**31) + b"\1" * 64),
        "sizes": header(1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0) + b"\0" * 64),
        "size that wraps": header(1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<IQQIQ", 2, 2**63, 2, 0, 0)),
        "offset": header(1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 4, 0, 2**64 - 64) + b"\0" * 64),
        "type": header(1, 0, struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 4, 99, 0) + b"\0" * 64),
        "version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
        "nothing in it": header(0, 0),
    }.items(),
    ids=lambda item: item[0],
)
def test_gguf_whose_header_lies_is_refused(content: tuple[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "lie.gguf"
    path.write_bytes(content[1])
    assert "lie.gguf" in refusal(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), min_size=1, max_size=4))
def test_gguf_with_flipped_bytes_loads_or_is_refused(flips: list[tuple[int, int]], good: Path, tmp_path: Path) -> None:
    content = bytearray(good.read_bytes())
    for position, value in flips:
        content[position] = value
    path = tmp_path / "flipped.gguf"
    path.write_bytes(content)
    assert "\n" not in outcome(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=3))
def test_safetensors_with_flipped_bytes_loads_or_is_refused(flips: list[tuple[int, int]], folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    content = bytearray(whole)
    for position, value in flips:
        content[position] = value
    (folder / WEIGHTS).write_bytes(content)
    try:
        assert "\n" not in outcome(folder)
    finally:
        (folder / WEIGHTS).write_bytes(whole)
