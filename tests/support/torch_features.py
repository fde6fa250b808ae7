"""Features in PyTorch, from the definition: what hooks see of one run, and gradients of one-hot tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from checking import torch_oracle
from checking.sites import patterns, watched

from epo_jax.models.decoder import PATTERN, SITES


@dataclasses.dataclass(frozen=True)
class Seen:
    """One run of a model over prompts and what follows them.

    Attributes:
        sites: site -> for each layer a tensor [B, S + m, ...].
        logits: [B, S + m, V].
        read: the token that is read, the last of S.
        target: the m tokens that follow S.
    """

    sites: dict[str, list[torch.Tensor]]
    logits: torch.Tensor
    read: int
    target: list[int]

    def at(self, site: str, layer: int) -> torch.Tensor:
        """A site's value [B, ...] where it is read."""
        return self.sites[site][layer][:, self.read]


Meaning = Callable[[Seen], torch.Tensor]


def scores(
    model: Any, meaning: Meaning, tokens: torch.Tensor, target: list[int], start: int, stop: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Feature at the last token and cross-entropy of the tokens from start to stop.

    Args:
        model: the model, with eager attention.
        meaning: the feature.
        tokens: one-hot [B, S, V].
        target: tokens that follow them.
        start: the first optimized token.
        stop: the token behind the last one.
    """
    following = torch_oracle.one_hot(model, np.tile(target, (len(tokens), 1)))
    inputs = torch_oracle.embedded(model, torch.cat([tokens, following], dim=1))
    with watched(model, [site for site in SITES if site != PATTERN]) as seen:
        out = model(inputs_embeds=inputs, output_attentions=True)
    seen[PATTERN] = patterns(out.attentions)
    value = meaning(Seen(seen, out.logits, tokens.shape[1] - 1, target))
    first = max(start, 1)
    log_probabilities = out.logits[:, first - 1 : stop - 1].log_softmax(dim=-1)
    return value, -(log_probabilities * tokens[:, first:stop]).sum(dim=-1).mean(dim=-1)


def scores_and_gradients(
    model: Any, meaning: Meaning, ids: np.ndarray, target: list[int], penalties: np.ndarray, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feature, cross-entropy, and gradient of feature - penalty * cross-entropy for the tokens from start to stop."""
    tokens = torch_oracle.one_hot(model, ids).requires_grad_()
    value, cross_entropy = scores(model, meaning, tokens, target, start, stop)
    weights = torch.as_tensor(np.broadcast_to(penalties, len(value)).copy(), dtype=model.dtype)
    (value - weights * cross_entropy).sum().backward()
    assert tokens.grad is not None
    return value.detach().numpy(), cross_entropy.detach().numpy(), tokens.grad[:, start:stop].numpy()


def relative(found: Any, expected: np.ndarray) -> np.ndarray:
    """Norm of the difference over the norm, for each row."""
    rows = (len(expected), -1)
    difference = np.linalg.norm((np.asarray(found) - expected).reshape(rows), axis=1)
    return difference / np.linalg.norm(expected.reshape(rows), axis=1)
