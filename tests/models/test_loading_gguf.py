"""Loading from GGUF is strict: what is read gives PyTorch's logits, what cannot be read is one clear line."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spoiling import Save, assert_same_logits, outcome, refusal
from tiny_gguf import gguf_metadata, gguf_tensors, write_gguf

from epo_jax.models import gguf_file, gguf_header
from epo_jax.models.gguf_file import open_gguf


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


# Kinds that gguf turns into numbers; for the others it has no function.
KINDS = [kind for kind in gguf.GGMLQuantizationType if kind in gguf.quants._type_traits or kind.name in ("F32", "F16")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_quantization_is_read_in_blocks_as_gguf_reads_it_whole(
    kind: gguf.GGMLQuantizationType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_file, "AT_ONCE", 3 * 512)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    rows, row_bytes = 41, 512 // block * block_bytes
    data = np.random.default_rng(0).integers(0, 256, (rows, row_bytes), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("before", np.ones(5, np.float32))
    writer.add_tensor("tensor", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = open_gguf(tmp_path / "m.gguf").checkpoint
    assert checkpoint.shapes == {"before": (5,), "tensor": (rows, 512)}
    found = checkpoint.read("tensor")
    assert found.dtype == np.float32
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, gguf.quants.dequantize(data, kind).reshape(rows, 512))


@pytest.mark.slow
def test_metadata_are_those_that_gguf_reads(embedded_gguf: Path) -> None:
    fields = gguf.GGUFReader(embedded_gguf).fields
    expected = {name: field.contents() for name, field in fields.items() if not name.startswith("GGUF.")}
    found = open_gguf(embedded_gguf).metadata
    assert found == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected.values()]


def test_metadata_of_every_kind_are_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    expected: dict[str, Any] = {"general.architecture": "llama"}
    numbers = {"uint8": 200, "int8": -100, "uint16": 60000, "int16": -30000, "uint32": 2**32 - 1, "int32": -(2**31)}
    numbers |= {"uint64": 2**64 - 1, "int64": -(2**63), "float32": 0.5, "float64": 0.1}
    for kind, value in numbers.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
        expected[f"a.{kind}"] = value
    writer.add_bool("a.yes", True)
    writer.add_bool("a.no", False)
    for name, value in (("floats", [0.5, -1.0]), ("texts", ["", "é", "日本"]), ("truths", [True, False])):
        writer.add_array(f"a.{name}", value)
        expected[f"a.{name}"] = value
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert open_gguf(tmp_path / "m.gguf").metadata == expected | {"a.yes": True, "a.no": False}


def test_arrays_are_refused_that_are_longer_than_any_vocabulary(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_header, "LONGEST_ARRAY", 306)
    assert "an array of 307 entries" in refusal(good)


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
        ("llama.rope.scaling.type", "linear", "lacks factor"),
        ("llama.rope.scaling.type", 3, "llama.rope.scaling.type=3"),
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
    assert "dimension_count=7 is no even number" in refusal(path)


def test_gguf_tensors_that_do_not_fit_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    metadata, tensors = gguf_metadata(tiny_folder), gguf_tensors(tiny_folder)
    norm = "output_norm.weight"
    for change, says in (
        ({norm: None}, f"lacks {norm}"),
        ({"rope_freqs.weight": np.zeros(3, np.float32)}, "rope_freqs.weight"),
        ({"rope_freqs.weight": np.ones(4, np.float32)}, "rope_freqs.weight has 4 numbers"),
        ({"rope_freq.weight": np.ones(3, np.float32)}, "rope_freq.weight"),
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


def test_gguf_that_goes_on_after_its_tensors_is_refused(
    good: Path, tiny_torch: torch.nn.Module, tmp_path: Path
) -> None:
    whole, path = good.read_bytes(), tmp_path / "long.gguf"
    path.write_bytes(whole + whole[-33:])
    assert "goes on to" in refusal(path)
    path.write_bytes(whole)
    assert_same_logits(path, tiny_torch)


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
