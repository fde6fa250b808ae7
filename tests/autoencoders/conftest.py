"""Autoencoders to be spoilt, and the hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_saes
from hub_server import HubServer
from huggingface_hub import constants
from huggingface_hub.utils import close_session

WIDTH = 36


@pytest.fixture
def written(tmp_path: Path) -> tiny_saes.TinySae:
    """A standard autoencoder that fits the tiny Llama."""
    return tiny_saes.write(tmp_path / "sae", "standard", "blocks.1.hook_resid_post", WIDTH)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The server, where the library finds it, with an empty cache and no login."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with HubServer().running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        close_session()
        yield server
    close_session()
