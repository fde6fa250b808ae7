"""Damaged files load or are refused in one line: no other error, no hang, no huge allocation."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import torch
from corrupting import corrupted
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from spoiling import INDEX, WEIGHTS, assert_same_logits, change_index, change_tensors, outcome, refusal
from tiny_gguf import gguf_metadata, gguf_tensors, write_gguf

import epo_jax
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.hf_folder import open_safetensors

# In the fast tier, and all.
FEW, MANY = 40, 200


@pytest.fixture(scope="module")
def good(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a good model's folder, with the same model in a GGUF file."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path_factory.mktemp("fuzz") / "model"))
    path = write_gguf(folder / "model.gguf", gguf_metadata(folder), gguf_tensors(folder))
    # Both ways once, since imports take their time where memory is traced.
    epo_jax.load_model(folder), epo_jax.load_model(path)
    return folder


def damage(good: Path, tmp_path: Path, file: str, header: int, seeds: range) -> dict[str, int]:
    """How often a damaged file loads and how often it is refused."""
    folder = Path(shutil.copytree(good, tmp_path / "damaged"))
    whole, counts = (good / file).read_bytes(), {"loads": 0, "refused": 0}
    for seed in seeds:
        (folder / file).write_bytes(corrupted(whole, header, seed))
        message = outcome(folder / file if file.endswith(".gguf") else folder)
        if message:
            assert file in message or str(folder) in message, seed
        counts["refused" if message else "loads"] += 1
    return counts


@pytest.mark.parametrize(
    ("file", "header"), [("model.gguf", 20000), (WEIGHTS, 4000), ("config.json", 700), ("tokenizer.json", 7000)]
)
@pytest.mark.parametrize(
    "seeds", [range(FEW), pytest.param(range(FEW, MANY), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_random_damage_loads_or_is_refused(good: Path, tmp_path: Path, file: str, header: int, seeds: range) -> None:
    counts = damage(good, tmp_path, file, header, seeds)
    # Some damage lies in numbers, of which any are weights; none of it goes unseen in text.
    assert counts["refused"] > len(seeds) / 4
    assert counts["loads"] > 0 or file.endswith(".json")


def test_random_damage_to_an_index_loads_or_is_refused(sharded: Path) -> None:
    whole = (sharded / INDEX).read_bytes()
    for seed in range(FEW):
        (sharded / INDEX).write_bytes(corrupted(whole, len(whole), seed))
        assert INDEX in (outcome(sharded) or INDEX), seed


def test_a_damaged_file_ends_the_command_with_code_2_and_one_line(good: Path, tmp_path: Path) -> None:
    content = (good / "model.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[: len(content) // 2])
    given = [f"--model={tmp_path / 'cut.gguf'}", f"--output={tmp_path / 'out'}"]
    done = commands.run(["-m", "epo_jax.dream", *given])
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert "cut.gguf: not a whole GGUF file" in lines[0]


def test_a_shard_of_another_size_than_its_header_tells_is_named_with_both(sharded: Path) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    whole = shard.read_bytes()
    for content in (whole[:-8], whole + b"more", whole[:2000]):
        shard.write_bytes(content)
        message = refusal(sharded)
        assert str(shard) in message
        assert f"{len(content):,} bytes where its header tells of {len(whole):,}" in message or len(content) == 2000
    for length in (2**40, 2**64 - 1, len(whole)):
        shard.write_bytes(struct.pack("<Q", length) + whole[8:])
        assert f"{len(whole):,} bytes where its first 8 tell of a header of {length:,}" in refusal(sharded)


def test_names_that_cannot_be_shown_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("line\nbreak", "\x1b[31mred", "x" * 1000):
        change_tensors(folder, lambda tensors, name=name: tensors.update({name: np.ones(3, np.float32)}))
        assert "truncated or corrupt" in refusal(folder)
        change_tensors(folder, lambda tensors, name=name: tensors.pop(name))
        tensors = gguf_tensors(folder) | {name: np.ones(3, np.float32)}
        try:
            path = write_gguf(tmp_path / "m.gguf", gguf_metadata(folder), tensors)
        except ValueError:
            continue  # gguf writes no name as long as that
        assert "truncated or corrupt" in refusal(path)


def test_a_name_that_the_header_has_twice_is_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"model.norm.weighs": np.ones(36, np.float32)}, folder / WEIGHTS)
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content.replace(b"model.norm.weighs", b"model.norm.weight"))
    assert WEIGHTS in refusal(folder)


def test_tensors_that_share_bytes_in_a_gguf_file_are_refused(good: Path, tmp_path: Path) -> None:
    content = bytearray((good / "model.gguf").read_bytes())
    for name in (b"blk.0.ffn_up.weight", b"blk.1.ffn_up.weight"):
        # Name, number of axes, two sizes, type, offset.
        start = content.index(struct.pack("<Q", len(name)) + name) + 8 + len(name) + 4 + 16 + 4
        content[start : start + 8] = struct.pack("<Q", 0)
    (tmp_path / "m.gguf").write_bytes(content)
    assert "share bytes" in refusal(tmp_path / "m.gguf")


def test_a_gguf_file_for_other_machines_is_refused(good: Path, tmp_path: Path) -> None:
    content = (good / "model.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(content[:4] + struct.pack(">I", 3) + content[8:])
    assert "largest byte first" in refusal(tmp_path / "m.gguf")


def test_a_file_that_shrinks_after_it_was_opened_is_refused(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "model"))
    for file, checkpoint, name in (
        (WEIGHTS, open_safetensors(folder), "model.norm.weight"),
        ("model.gguf", open_gguf(folder / "model.gguf").checkpoint, "output_norm.weight"),
    ):
        assert checkpoint.read(name).shape == (36,)
        os.truncate(folder / file, 1000)
        with pytest.raises(epo_jax.EpoError, match=rf"{file}: tensor {name}"):
            checkpoint.read(name)
        (folder / file).unlink()
        with pytest.raises(epo_jax.EpoError, match=rf"{file}: tensor {name}"):
            checkpoint.read(name)


@pytest.mark.parametrize("kind", ["nothing", "folder", "loop", "device", "pipe"])
def test_a_shard_that_is_a_link_to_no_file_is_refused(kind: str, sharded: Path, tmp_path: Path) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    if kind == "pipe":
        os.mkfifo(shard)
    else:
        targets = {"nothing": "/nowhere", "folder": tmp_path, "loop": shard, "device": "/dev/zero"}
        shard.symlink_to(targets[kind])
    assert shard.name in refusal(sharded)


def test_shards_that_are_links_load_as_the_hub_s_cache_has_them(
    sharded: Path, tmp_path: Path, tiny_torch: torch.nn.Module
) -> None:
    (tmp_path / "blobs").mkdir()
    for number, shard in enumerate(sharded.glob("model-*.safetensors")):
        shard.rename(tmp_path / "blobs" / str(number))
        shard.symlink_to(Path("..") / "blobs" / str(number))
    assert_same_logits(sharded, tiny_torch)


def test_an_absolute_path_in_an_index_is_refused_though_it_is_that_of_the_shard(sharded: Path) -> None:
    change_index(
        sharded,
        lambda index: index.update(weight_map={k: str(sharded / v) for k, v in index["weight_map"].items()}),
    )
    assert "points outside the folder" in refusal(sharded)


def test_an_index_that_disagrees_with_the_shards_is_refused_by_tensor(sharded: Path) -> None:
    whole = (sharded / INDEX).read_text()
    files = sorted(path.name for path in sharded.glob("model-*.safetensors"))
    norm, here = "model.norm.weight", json.loads(whole)["weight_map"]["model.norm.weight"]
    there = next(name for name in files if name != here)
    for change, says in (
        (lambda index: index["weight_map"].update({norm: there}), f"tensor {norm} is in {there}, which does not have"),
        (lambda index: index["weight_map"].pop(norm), f"does not tell of tensor {norm}, which is in {here}"),
        (lambda index: index["weight_map"].update(extra=here), f"tensor extra is in {here}, which does not have it"),
        (lambda index: index["metadata"].update(total_size=7), "7 bytes in all"),
        (lambda index: index["metadata"].update(total_size="7\n8"), r"'7\n8' bytes in all"),
    ):
        (sharded / INDEX).write_text(whole)
        change_index(sharded, change)
        message = refusal(sharded)
        assert str(sharded / INDEX) in message
        assert says in message


@pytest.mark.parametrize("change", [{"metadata": None}, {"metadata": {}}, {"metadata": {"total_size": None}}])
def test_an_index_without_a_size_loads(change: dict[str, Any], sharded: Path, tiny_torch: torch.nn.Module) -> None:
    change_index(sharded, lambda index: index.update(change))
    assert_same_logits(sharded, tiny_torch)


def test_sizes_that_count_truth_values_as_bits_or_whole_files_load(sharded: Path, tiny_torch: torch.nn.Module) -> None:
    # As older versions of transformers and of mlx-lm wrote them.
    shard = next(sharded.glob("model-*.safetensors"))
    buffer = "model.layers.0.self_attn.rotary_emb.inv_freq"
    save_file(load_file(shard) | {buffer: np.ones(12, np.bool_)}, shard, {"format": "pt"})
    total = json.loads((sharded / INDEX).read_text())["metadata"]["total_size"]
    on_disk = sum(path.stat().st_size for path in sharded.glob("model-*.safetensors"))
    change_index(sharded, lambda index: index["weight_map"].update({buffer: shard.name}))
    for size in (total + 12, total + 1.5, on_disk):
        change_index(sharded, lambda index, size=size: index["metadata"].update(total_size=size))
        assert_same_logits(sharded, tiny_torch)
    change_index(sharded, lambda index: index["metadata"].update(total_size=total + 13))
    assert "in all" in refusal(sharded)


def test_what_a_converter_left_out_may_stay_in_the_index(tmp_path: Path, save_llama: Callable[..., Any]) -> None:
    model = save_llama(tmp_path, tie_word_embeddings=True)
    (tmp_path / WEIGHTS).unlink()
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    head, embedding = "lm_head.weight", "model.embed_tokens.weight"
    file = json.loads((tmp_path / INDEX).read_text())["weight_map"][embedding]
    change_index(tmp_path, lambda index: index["weight_map"].update({head: file}))
    assert f"tensor {head} is in {file}" in refusal(tmp_path)
    with safe_open(tmp_path / file, "np") as shard:
        notes = {**shard.metadata(), head: embedding}
    save_file(load_file(tmp_path / file), tmp_path / file, notes)
    assert_same_logits(tmp_path, model)
