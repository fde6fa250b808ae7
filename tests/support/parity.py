"""Models compared with PyTorch: logits, and every named site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_oracle
from flax import nnx

import epo_jax
from epo_jax.models import decoder as sites
from epo_jax.models.config import DTYPES

# How the families name the parameters of their norms.
NORM = re.compile(r"norm|\bln_")


def random_ids(vocab_size: int, shape: tuple[int, int] = (3, 17), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


def torch_logits(model: torch.nn.Module, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(ids)).logits.float().numpy()


def round_parameters(model: torch.nn.Module, dtype: torch.dtype) -> None:
    # Parameters alone: model.to(dtype) would round the rotary frequencies too. Norms keep theirs, as ours do.
    for name, parameter in model.named_parameters():
        if not NORM.search(name):
            parameter.data = parameter.data.to(dtype).to(torch.float32)


def assert_dtypes(lm: epo_jax.LanguageModel, dtype: str) -> None:
    """Norms are float32, everything else is what was asked for."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(lm.params):
        norm = "norm" in jax.tree_util.keystr(path)
        assert leaf.dtype == (jnp.float32 if norm else DTYPES[dtype]), path


def assert_same_logits(folder: Path, model: torch.nn.Module) -> None:
    ids = random_ids(model.config.vocab_size)
    expected = torch_logits(model, ids)
    assert expected.std() > 0.1  # else the tolerance would hide errors
    found = epo_jax.logits(epo_jax.load_model(str(folder), dtype="float32"), ids)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def both_sides(
    lm: epo_jax.LanguageModel, model: torch.nn.Module, ids: np.ndarray, names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Site -> its values [L, B, S, ...] here and in PyTorch."""
    theirs = hooked(model, ids, names)
    shapes = {site: values.shape for site, values in theirs.items()}
    ours = jax.jit(lambda params: observe_all(lm, params, ids, shapes))(lm.params)
    return {site: (np.asarray(ours[site]), theirs[site]) for site in theirs}


def observe_all(lm: epo_jax.LanguageModel, params: nnx.State, ids: np.ndarray, shapes: dict) -> dict[str, jax.Array]:
    model = nnx.merge(lm.graphdef, params)

    def keep(kept: dict, site: str, layer: jax.Array, value: jax.Array) -> dict:
        return {**kept, site: kept[site].at[layer].set(value)}

    empty = {site: jnp.full(shape, jnp.nan) for site, shape in shapes.items()}
    return model(model.embed(jnp.asarray(ids)), sites.Observer(tuple(shapes), keep), empty)[1]


def hooked(model: torch.nn.Module, ids: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """What PyTorch's modules take in and give out at these sites."""
    seen: dict[str, list[np.ndarray]] = {site: [] for site in names}
    heads = model.config.num_attention_heads

    def take(module: torch.nn.Module, site: str, which: str, shape: tuple[int, ...] | None = None) -> None:
        def hook(_module: torch.nn.Module, args: tuple, output: object) -> None:
            value = args[0] if which == "input" else output
            value = value[0] if isinstance(value, tuple) else value
            seen[site].append(value.reshape(shape or value.shape).numpy())

        if site in names:
            module.register_forward_hook(hook)

    for layer in model.base_model.layers:
        attention = torch_oracle.part(layer, torch_oracle.ATTENTION)
        take(layer, sites.RESID_PRE, "input")
        take(torch_oracle.part(attention, torch_oracle.OUTPUT), sites.Z, "input", (*ids.shape, heads, -1))
        take(attention, sites.ATTN_OUT, "output")
        take(layer.post_attention_layernorm, sites.RESID_MID, "input")
        take(torch_oracle.part(layer.mlp, torch_oracle.DOWN), sites.MLP_POST, "input")
        take(layer.mlp, sites.MLP_OUT, "output")
        take(layer, sites.RESID_POST, "output")
    with torch.no_grad():
        attentions = model(torch.from_numpy(ids), output_attentions=True).attentions
    seen[sites.PATTERN] = [pattern.transpose(1, 2).numpy() for pattern in attentions]
    return {site: np.stack(seen[site]) for site in names}
