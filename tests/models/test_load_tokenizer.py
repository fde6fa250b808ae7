"""A tokenizer without its model is the one that the model has."""

from __future__ import annotations

import pytest

from epo_jax import EpoError
from epo_jax.models.load_tokenizer import load_tokenizer


def test_a_folders_tokenizer_is_its_models(tiny, tiny_folder) -> None:
    text = " some words, and more"
    assert load_tokenizer(str(tiny_folder)).encode(text) == tiny.tokenizer.encode(text)


def test_random_models_have_numbered_tokens() -> None:
    assert load_tokenizer("random:pythia-70m").convert_ids_to_tokens([3, 4]) == ["t3", "t4"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(EpoError, match="--model=nobody"):
        load_tokenizer("nobody")
