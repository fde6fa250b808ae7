"""Autoencoders to be spoilt."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_saes

WIDTH = 36


@pytest.fixture
def written(tmp_path: Path) -> tiny_saes.TinySae:
    """A standard autoencoder that fits the tiny Llama."""
    return tiny_saes.write(tmp_path / "sae", "standard", "blocks.1.hook_resid_post", WIDTH)
