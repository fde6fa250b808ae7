"""The strongest hits of a corpus by brute force in PyTorch: each window is run, each position looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64

from checking.sites import watched
from checking.torch_oracle import Model
from epo_jax.corpus.windows import Window
from epo_jax.models.decoder import MLP_POST


@dataclasses.dataclass(frozen=True)
class WindowBests:
    """The best of each window.

    Attributes:
        activation: float32[W, F], the largest of W windows at the positions that count.
        position: int64[W, F], where in the window.
        sample: float32[N, n], activations of some features at all N positions that count.
    """

    activation: Float32[np.ndarray, "W F"]
    position: Int64[np.ndarray, "W F"]
    sample: Float32[np.ndarray, "N n"]


def window_bests(
    model: Model,
    windows: Sequence[Window],
    prefix: Sequence[int],
    length: int,
    neurons: Sequence[tuple[int, int]],
    logits: Sequence[int],
    sampled: Sequence[int],
) -> WindowBests:
    """Look at every position of windows, one after the other.

    Args:
        model: in PyTorch.
        windows: of the corpus.
        prefix: tokens that stand before each, such as a BOS.
        length: tokens of a dream; a position counts if the window has as many up to it.
        neurons: layer and index of each neuron.
        logits: tokens whose logits, less the largest other one, come after the neurons.
        sampled: columns of features, all activations of which are given back.
    """
    layers, indices = np.array(neurons, np.int64).reshape(-1, 2).T
    best, position, sample = [], [], []
    for window in windows:
        ids = np.concatenate([np.asarray(prefix, np.int64), window.ids.astype(np.int64)])[None]
        with torch.no_grad(), watched(model, [MLP_POST]) as seen:
            scores = model(torch.from_numpy(ids)).logits[0, len(prefix) :].float().numpy()
        activations = torch.stack(seen[MLP_POST])[:, 0, len(prefix) :].float().numpy()
        columns = [activations[layers, :, indices].T]
        for token in logits:
            others = np.delete(scores, token, axis=1)
            columns.append((scores[:, token] - others.max(axis=1))[:, None])
        counted = np.concatenate(columns, axis=1)[length - 1 :]
        best.append(counted.max(axis=0))
        position.append(counted.argmax(axis=0) + length - 1)
        sample.append(counted[:, list(sampled)])
    return WindowBests(np.stack(best), np.stack(position), np.concatenate(sample))
