"""Every named site of a model, here and in PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

import epo_jax
from checking import torch_oracle
from checking.torch_oracle import Model
from epo_jax.features.base import Label
from epo_jax.features.logit import LogitDifference
from epo_jax.models import decoder as sites


def present(lm: epo_jax.LanguageModel) -> list[str]:
    """The sites that a model has."""
    return [site for site in sites.SITES if site != sites.RESID_MID or not lm.config.parallel_residual]


def logit_feature(token: int) -> LogitDifference:
    """The logit of a token above the largest other one, whatever the token's text."""
    return LogitDifference(jnp.int32(token), Label(f"token {token}"))


def torch_logits(model: Model, ids: np.ndarray) -> np.ndarray:
    """Logits float32[B, S, V] of ids int64[B, S] in PyTorch."""
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(ids)).logits.float().numpy())


def both_sides(
    lm: epo_jax.LanguageModel, model: Model, ids: np.ndarray, names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Site -> its values [L, B, S, ...] here and in PyTorch."""
    theirs = hooked(model, ids, names)
    shapes = {site: values.shape for site, values in theirs.items()}
    ours = jax.jit(lambda params: observe_all(lm, params, ids, shapes))(lm.params)
    return {site: (np.asarray(ours[site]), theirs[site]) for site in theirs}


def observe_all(
    lm: epo_jax.LanguageModel, params: nnx.State, ids: np.ndarray, shapes: dict[str, tuple[int, ...]]
) -> dict[str, jax.Array]:
    """What the decoder hands over at these sites, as a function to be traced."""
    model = nnx.merge(lm.graphdef, params)

    def keep(kept: dict[str, jax.Array], site: str, layer: jax.Array, value: jax.Array) -> dict[str, jax.Array]:
        return {**kept, site: kept[site].at[layer].set(value)}

    empty = {site: jnp.full(shape, jnp.nan) for site, shape in shapes.items()}
    found: dict[str, jax.Array] = model(model.embed(jnp.asarray(ids)), sites.Observer(tuple(shapes), keep), empty)[1]
    return found


def hooked(model: Model, ids: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """What PyTorch's modules take in and give out at these sites."""
    with torch.no_grad(), watched(model, names) as seen:
        attentions = model(torch.from_numpy(ids), output_attentions=True).attentions
    seen[sites.PATTERN] = patterns(attentions)
    return {site: np.stack([value.numpy() for value in seen[site]]) for site in names}


def patterns(attentions: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """PyTorch's attention patterns of all layers [B, H, S, S] as this package has them, [B, S, H, S]."""
    return [pattern.transpose(1, 2) for pattern in attentions]


@contextlib.contextmanager
def watched(model: Model, names: Sequence[str]) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Collects what a run of the model takes in and gives out at these sites, layer after layer; no patterns."""
    seen: dict[str, list[torch.Tensor]] = {site: [] for site in names}
    handles = []

    def take(module: torch.nn.Module, site: str, which: str, heads: int | None = None) -> None:
        def hook(_module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: object) -> None:
            value = args[0] if which == "input" else output
            value = value[0] if isinstance(value, tuple) else value
            assert isinstance(value, torch.Tensor)
            seen[site].append(value if heads is None else value.unflatten(-1, (heads, -1)))

        if site in names:
            handles.append(module.register_forward_hook(hook))

    for layer in torch_oracle.layers_of(model):
        parts = dict(layer.named_children())
        attention, mlp = torch_oracle.part(layer, torch_oracle.ATTENTION), parts["mlp"]
        # With norms behind attention and MLP, what joins the residual stream is what they give out.
        normed = "post_feedforward_layernorm" in parts
        names_of_mlp_norm = ["pre_feedforward_layernorm"] if normed else ["ln_2", "post_attention_layernorm"]
        mlp_norm = next((parts[name] for name in names_of_mlp_norm if name in parts), mlp)
        take(layer, sites.RESID_PRE, "input")
        output = torch_oracle.part(attention, torch_oracle.OUTPUT)
        take(output, sites.Z, "input", model.config.num_attention_heads)
        take(parts["post_attention_layernorm"] if normed else attention, sites.ATTN_OUT, "output")
        take(mlp_norm, sites.RESID_MID, "input")
        take(torch_oracle.part(mlp, torch_oracle.DOWN), sites.MLP_POST, "input")
        take(parts["post_feedforward_layernorm"] if normed else mlp, sites.MLP_OUT, "output")
        take(layer, sites.RESID_POST, "output")
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
