"""Loading from safetensors is strict: what cannot be read is one clear line."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from spoiling import (
    INDEX,
    WEIGHTS,
    Save,
    assert_same_logits,
    change_config,
    change_index,
    change_tensors,
    outcome,
    refusal,
)


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
