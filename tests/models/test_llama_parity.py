"""Llama against PyTorch's: however its weights are stored, and the embedded model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checking.sites import torch_logits
from parity import assert_same_logits, random_ids
from safetensors.torch import load_file, save_file

import epo_jax

Save = Callable[..., torch.nn.Module]


def test_shards_load_as_one_file_does(tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_same_logits(tmp_path, model)


def test_tied_head_saved_twice_loads(tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path, tie_word_embeddings=True)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_same_logits(tmp_path, model)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_stored_float_type_load(stored: torch.dtype, tmp_path: Path, save_llama: Save) -> None:
    model = save_llama(tmp_path)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(stored).to(torch.float32)
    tensors = {name: tensor.to(stored) for name, tensor in model.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_same_logits(tmp_path, model)


def test_later_tokens_change_nothing_before_them(tiny: epo_jax.LanguageModel) -> None:
    ids = random_ids(307, (1, 12))
    changed = ids.copy()
    changed[0, 7:] = (changed[0, 7:] + 5) % 307
    before, after = epo_jax.logits(tiny, ids), epo_jax.logits(tiny, changed)
    np.testing.assert_array_equal(before[0, :7], after[0, :7])
    assert (np.abs(before[0, 7:] - after[0, 7:]).max(axis=-1) > 1e-3).all()


PROMPTS = (
    "The quick brown fox jumps over the lazy dog and runs away from the bear.",
    "def main():\n    print('hello',  42)\n",
    "<|im_start|>user\nWas ist 12 + 30? Ünïcödé 🙂<|im_end|>",
    " the",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_embedded_model_gives_pytorchs_logits(
    prompt: str, lm: epo_jax.LanguageModel, torch_lm: torch.nn.Module
) -> None:
    ids = np.asarray([lm.tokenizer.encode(prompt, add_special_tokens=False)])
    np.testing.assert_allclose(epo_jax.logits(lm, ids), torch_logits(torch_lm, ids), rtol=0, atol=2e-3)


def test_embedded_model_scores_english_as_known(lm: epo_jax.LanguageModel) -> None:
    ids = lm.tokenizer.encode(PROMPTS[0], add_special_tokens=False)
    assert len(ids) == 16
    found = epo_jax.score(lm, epo_jax.parse_feature("L10.N5", lm), [ids])
    assert found.cross_entropy[0] == pytest.approx(3.7509, abs=0.001)


def test_embedded_model_continues_with_paris(lm: epo_jax.LanguageModel) -> None:
    ids = lm.tokenizer.encode("The capital of France is", add_special_tokens=False)
    start, length = len(ids), len(ids) + 4
    for position in range(start, length):
        # What stands after the last token is not seen by it, so one shape serves every step.
        padded = np.zeros((1, length), np.int32)
        padded[0, :position] = ids
        ids.append(int(epo_jax.logits(lm, padded)[0, position - 1].argmax()))
    assert lm.tokenizer.decode(ids[start:]).startswith(" Paris.")
