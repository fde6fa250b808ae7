"""Scores and gradients of prompts in PyTorch, from the definition: every token is a row of a one-hot matrix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

# One of transformers, whose attributes are beyond type checkers.
Model = Any
# What families call the same part of a layer.
ATTENTION = ("self_attn", "attention", "attn")
OUTPUT = ("o_proj", "dense", "c_proj", "out_proj")
DOWN = ("down_proj", "dense_4h_to_h", "c_proj", "fc_out", "fc2")


def layers_of(model: Model) -> torch.nn.ModuleList:
    """The layers of a model, from the bottom."""
    found = part(model.base_model, ("layers", "h"))
    assert isinstance(found, torch.nn.ModuleList)
    return found


def part(module: torch.nn.Module, names: tuple[str, ...]) -> torch.nn.Module:
    """The submodule that has one of these names."""
    return next(child for name, child in module.named_children() if name in names)


def embedded(model: Model, tokens: torch.Tensor) -> torch.Tensor:
    """One-hot tokens [B, S, V] as they enter the model, after what its embedding does to them.

    Gemma's embedding multiplies what it looks up, and its model takes inputs_embeds as they are.
    """
    embedding = model.get_input_embeddings()
    return tokens @ embedding.weight * getattr(embedding, "embed_scale", 1.0)


def one_hot(model: Model, ids: ArrayLike) -> torch.Tensor:
    """[B, S] -> [B, S, V] in the model's dtype."""
    tokens = torch.from_numpy(np.array(ids, np.int64))
    return torch.nn.functional.one_hot(tokens, model.config.vocab_size).to(model.dtype)


@contextlib.contextmanager
def inputs_of(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects what goes into a module."""
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        handle.remove()


def scores(
    model: Model, feature: str, tokens: torch.Tensor, start: int, stop: int, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Feature at the last token and cross-entropy of the tokens from start to stop that have a predecessor.

    The feature is "L1.N5" or "token 7", the logit of token 7 above the largest other one.
    """
    layer, _, neuron = feature.removeprefix("L").partition(".N")
    observed = part(layers_of(model)[int(layer) if neuron else 0], ("mlp",))
    with inputs_of(part(observed, DOWN)) as seen:
        logits = model(inputs_embeds=embedded(model, tokens)).logits
    if neuron:
        value = seen[0][:, -1, int(neuron)]
    else:
        token = int(feature.removeprefix("token "))
        others = torch.cat([logits[:, -1, :token], logits[:, -1, token + 1 :]], dim=-1)
        value = logits[:, -1, token] - others.max(dim=-1).values
    first = max(start, 1)
    log_probabilities = logits[:, first - 1 : stop - 1].log_softmax(dim=-1)
    return value, -(log_probabilities * labels[:, first:stop]).sum(dim=-1).mean(dim=-1)


def scores_of_ids(
    model: Model, feature: str, ids: ArrayLike, start: int = 0, stop: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The same of ids [B, S]."""
    tokens = one_hot(model, ids)
    with torch.no_grad():
        value, cross_entropy = scores(model, feature, tokens, start, stop or tokens.shape[1], tokens)
    return value.numpy(), cross_entropy.numpy()


def gradients(
    model: Model,
    feature: str,
    ids: ArrayLike,
    penalties: ArrayLike,
    start: int = 0,
    stop: int | None = None,
    label_side: bool = True,
) -> np.ndarray:
    """Gradient of feature - penalty * cross-entropy with respect to the one-hot matrix's rows from start to stop.

    Args:
        model: the model.
        feature: as for `scores`.
        ids: [B, S].
        penalties: a number, or one for each prompt.
        start: the first optimized token.
        stop: the token behind the last one; by default all are optimized.
        label_side: whether the matrix is the label too, or the label is a constant.
    """
    tokens = one_hot(model, ids).requires_grad_()
    stop = stop or tokens.shape[1]
    labels = tokens if label_side else tokens.detach()
    value, cross_entropy = scores(model, feature, tokens, start, stop, labels)
    weights = torch.as_tensor(np.broadcast_to(penalties, len(value)).copy(), dtype=model.dtype)
    (value - weights * cross_entropy).sum().backward()
    assert tokens.grad is not None
    return tokens.grad[:, start:stop].numpy()
