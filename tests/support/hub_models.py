"""Models by hub id, as tests load them from the server on loopback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spoiling import IDS

import epo_jax

ID = "owner/tiny"


def load(name: str = ID, revision: str | None = None) -> epo_jax.LanguageModel:
    return epo_jax.load_model(name, "float32", revision=revision)


def refusal(name: str = ID, revision: str | None = None) -> str:
    """The one line that refuses a model."""
    with pytest.raises(epo_jax.EpoError) as caught:
        load(name, revision)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def assert_same(lm: epo_jax.LanguageModel, folder: Path) -> None:
    """A model is that of a folder."""
    expected = epo_jax.logits(epo_jax.load_model(folder, "float32"), IDS)
    np.testing.assert_array_equal(epo_jax.logits(lm, IDS), expected)


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("model-*.safetensors"))


def partials(tmp_path: Path) -> list[Path]:
    """What the cache has of downloads that broke off."""
    return list((tmp_path / "cache").glob("*/blobs/*.incomplete"))
