"""GGUF files of GPT-2, Phi and Gemma give the logits of the folders that they were made of, or one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from family_configs import FULL, SLIDING, bases
from gguf_models import write
from safetensors.numpy import load_file, save_file
from spoiling import WEIGHTS, assert_same_logits, refusal

# Converters write four times the width for the MLP's, whatever it is, and Gemma's scale of scores not at all.
GPT2 = {"n_inner": 144}
PHI = {"intermediate_size": 144}
GEMMA = {"query_pre_attn_scalar": 10}


def pattern(layers: int, full: int) -> dict[str, Any]:
    types = [FULL if (layer + 1) % full == 0 else SLIDING for layer in range(layers)]
    return {"num_hidden_layers": layers, "layer_types": types}


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gpt2", GPT2),
        ("gpt2", {**GPT2, "num_attention_heads": 3, "layer_norm_epsilon": 0.25}),
        ("gpt2", {**GPT2, "tie_word_embeddings": False}),
        ("phi", PHI),
        ("phi", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 1.0}, **PHI}),
        ("gemma", {}),
        ("gemma", {"num_key_value_heads": 1, "head_dim": 6, "rms_norm_eps": 0.25}),
        ("gemma2", GEMMA),
        ("gemma2", {**GEMMA, **pattern(5, 2), "sliding_window": 3, "final_logit_softcapping": 2.0}),
        # The largest Gemma 2 has a scale of its own, 36 / 6, and so has the largest Gemma 3.
        ("gemma2", {"query_pre_attn_scalar": 6, **pattern(46, 2), "initializer_range": 0.05}),
        ("gemma3", {**GEMMA, **pattern(7, 6)}),
        ("gemma3", {**GEMMA, **pattern(7, 6), **bases(300.0, 20.0, rope_type="linear", factor=8.0)}),
        ("gemma3", {**GEMMA, **pattern(7, 6), "tie_word_embeddings": False, "final_logit_softcapping": 3.0}),
        ("gemma3", {"query_pre_attn_scalar": 6, **pattern(62, 6), "initializer_range": 0.05}),
    ],
)
def test_gguf_gives_the_logits_of_the_folder(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, family, **changes)
    assert_same_logits(write(tmp_path, family), model)


def test_old_gpt2_file_with_a_head_of_its_own_loads(tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, "gpt2", **GPT2)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file(tensors | {"lm_head.weight": tensors["transformer.wte.weight"].copy()}, tmp_path / WEIGHTS)
    assert_same_logits(write(tmp_path, "gpt2"), model)


def test_first_gemma2_files_have_the_caps_and_the_window_that_they_do_not_name(tmp_path: Path) -> None:
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 4096}
    model = tiny_models.save(tmp_path, "gemma2", **GEMMA, **caps)
    keys = ("attn_logit_softcapping", "final_logit_softcapping", "attention.sliding_window")
    assert_same_logits(write(tmp_path, "gemma2", drop=tuple(f"gemma2.{key}" for key in keys)), model)


def test_first_gemma3_files_turn_sliding_layers_as_all_of_them_did(tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, "gemma3", **GEMMA, **pattern(3, 6))
    assert_same_logits(write(tmp_path, "gemma3", drop=("gemma3.rope.freq_base_swa",)), model)


def test_gemma3_without_a_window_sees_all(tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, "gemma3", **GEMMA, layer_types=[FULL] * 3)
    assert_same_logits(write(tmp_path, "gemma3", drop=("gemma3.attention.sliding_window",)), model)


@pytest.mark.parametrize(("family", "every"), [("gemma2", 3), ("gemma3", 2), ("gemma3", 1)])
def test_another_pattern_of_layers_is_read(family: str, every: int, tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, family, **GEMMA, **pattern(4, every))
    key = f"{family}__attention__sliding_window_pattern"
    assert_same_logits(write(tmp_path, family, **{key: every}), model)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family, saved."""
    families: dict[str, dict[str, Any]] = {"gpt2": GPT2, "phi": PHI, "gemma": {}, "gemma2": {}, "gemma3": {}}
    made = {family: tmp_path_factory.mktemp(family) for family in families}
    for family, changes in families.items():
        tiny_models.save(made[family], family, **changes)
    return made


@pytest.mark.parametrize(
    ("family", "key", "value", "says"),
    [
        *((family, "new_switch", 1, "new_switch") for family in ("gpt2", "phi", "gemma")),
        *((family, "block_count", 2, "blk.2.") for family in ("gpt2", "gemma2", "gemma3")),
        ("gpt2", "context_length", 63, "position_embd.weight"),
        ("gpt2", "feed_forward_length", 143, "ffn_"),
        ("gpt2", "attention.head_count", 5, "5 heads do not divide the width 36"),
        ("gpt2", "rope.freq_base", 1e4, "rope.freq_base"),
        ("phi", "rope.dimension_count", 5, "dimension_count=5"),
        ("phi", "attention.head_count_kv", 2, "2 key and value heads do not divide 3 heads"),
        ("phi", "attention.head_count_kv", 1, "attn_k"),
        ("gemma", "attention.value_length", 12, "value_length=12"),
        ("gemma", "attention.sliding_window_pattern", 2, "sliding_window_pattern"),
        ("gemma", "final_logit_softcapping", 30.0, "final_logit_softcapping"),
        ("gemma2", "attention.sliding_window", 0, "sliding_window=0"),
        ("gemma2", "attention.sliding_window_pattern", 0, "sliding_window_pattern=0"),
        ("gemma2", "attention.sliding_window_pattern", "x", "sliding_window_pattern='x'"),
        ("gemma2", "attn_logit_softcapping", -1.0, "attention_softcap=-1.0"),
        ("gemma2", "final_logit_softcapping", float("nan"), "logit_softcap=nan"),
        ("gemma2", "rope.freq_base_swa", 1e4, "rope.freq_base_swa"),
        ("gemma3", "attn_logit_softcapping", 50.0, "attn_logit_softcapping"),
        ("gemma3", "rope.freq_base_swa", 0.0, "rope_theta"),
        ("gemma3", "rope.scaling.type", "new", "'new'"),
        ("gemma3", "attention.key_length", 11, "11"),
    ],
)
def test_gguf_metadata_that_cannot_be_used_is_refused(
    family: str, key: str, value: object, says: str, folders: dict[str, Path]
) -> None:
    name = f"{'phi2' if family == 'phi' else family}.{key}".replace(".", "__")
    assert says in refusal(write(folders[family], family, **{name: value}))


@pytest.mark.parametrize(("family", "prefix"), [("gpt2", "gpt2"), ("phi", "phi2"), ("gemma3", "gemma3")])
def test_gguf_without_a_key_that_is_needed_is_refused(family: str, prefix: str, folders: dict[str, Path]) -> None:
    assert f"lacks {prefix}.block_count" in refusal(write(folders[family], family, drop=(f"{prefix}.block_count",)))


def test_gguf_of_gpt_j_is_not_supported_since_there_are_none(folders: dict[str, Path], tmp_path: Path) -> None:
    content = write(folders["gpt2"], "gpt2").read_bytes()
    path = tmp_path / "model.gguf"
    path.write_bytes(content.replace(b"\4\0\0\0\0\0\0\0gpt2", b"\4\0\0\0\0\0\0\0gptj", 1))
    message = refusal(path)
    assert "'gptj' is not supported" in message
    assert "gemma3" in message


def test_fused_gguf_rows_of_another_size_are_refused(tmp_path: Path) -> None:
    model = tiny_models.save(tmp_path, "gpt2", **GPT2)
    with torch.no_grad():
        model.transformer.h[1].attn.c_attn.weight = torch.nn.Parameter(torch.zeros(36, 36))
    model.save_pretrained(tmp_path)
    message = refusal(write(tmp_path, "gpt2"))
    assert "blk.1.attn_qkv.weight" in message
    assert "(36, 36)" in message
