"""Spoiling a model's files, and what loading them says."""

from __future__ import annotations

import contextlib
import json
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

import epo_jax

Save = Callable[..., torch.nn.Module]
IDS = np.random.default_rng(0).integers(0, 307, (2, 9))
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Have what is run inside end soon, and without Python or NumPy allocating much."""
    old = signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(60)
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    assert peak < 64 * 2**20


def refusal(model: Path | str) -> str:
    """The one line that refuses a model, soon and without allocating much."""
    message = outcome(model)
    assert message, "the model loads"
    return message


def outcome(model: Path | str) -> str:
    """The line that refuses a model, or nothing if it loads; either soon and without allocating much."""
    with bounded():
        try:
            epo_jax.load_model(str(model), dtype="float32")
        except epo_jax.EpoError as error:
            message = str(error)
        else:
            return ""
    assert message
    assert message.isprintable()
    assert len(message) < 600
    return message


def _too_slow(_signal: int, _frame: object) -> None:
    raise AssertionError("loading hangs")


def assert_same_logits(model: Path, expected: torch.nn.Module) -> None:
    with torch.no_grad():
        wanted = expected(torch.from_numpy(IDS)).logits.numpy()
    found = epo_jax.logits(epo_jax.load_model(str(model), dtype="float32"), IDS)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def change_config(folder: Path, drop: tuple[str, ...] = (), **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in config.items() if name not in drop}))


def change_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def change_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))
