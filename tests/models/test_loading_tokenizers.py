"""Tokenizers by the names of models, without their weights."""

from __future__ import annotations

import shutil

import pytest

import epo_jax
from epo_jax.models import load_tokenizer


def test_a_folder_without_weights_has_its_tokenizer(tiny, tiny_folder, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folder / name, tmp_path)
    assert load_tokenizer(tmp_path).get_vocab() == tiny.tokenizer.get_vocab()


def test_the_embedded_models_and_random_ones_have_theirs():
    assert len(load_tokenizer("smollm2-135m")) == 49152
    assert load_tokenizer("random:pythia-70m").decode([5, 7]) == "t5 t7"


def test_an_unknown_name_is_told(tmp_path):
    with pytest.raises(epo_jax.EpoError, match="--model=nonsense"):
        load_tokenizer("nonsense")
    (tmp_path / "model.bin").touch()
    with pytest.raises(epo_jax.EpoError, match=r"does not end in \.gguf"):
        load_tokenizer(tmp_path / "model.bin")
