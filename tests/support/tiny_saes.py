"""Tiny random autoencoders in SAELens's format, and what they compute, in PyTorch from the definition."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

D_SAE = 13


@dataclasses.dataclass(frozen=True)
class TinySae:
    """An autoencoder in a folder.

    Attributes:
        folder: with cfg.json and sae_weights.safetensors.
        config: the former.
        tensors: the latter.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]

    def text(self, index: int) -> str:
        """The feature string of a latent."""
        return f"sae:{self.folder}:{index}"

    def read(self, values: torch.Tensor, centered: bool = False) -> torch.Tensor:
        """What it reads of values [B, ...] at its site, before the decoder's bias is taken off."""
        x = values.flatten(1)
        if centered:
            x = x - x.mean(dim=-1, keepdim=True)
        kind = self.config["normalize_activations"]
        if kind == "layer_norm":
            x = x - x.mean(dim=-1, keepdim=True)
            return x / (x.std(dim=-1, keepdim=True) + 1e-5)
        return x * (x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)) if kind == "constant_norm_rescale" else x

    def both(self, values: torch.Tensor, centered: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Search values and activations [B, D_SAE] of values [B, ...] at its site."""
        t = {name: torch.from_numpy(tensor) for name, tensor in self.tensors.items()}
        x = self.read(values, centered)
        if self.config["apply_b_dec_to_input"]:
            x = x - t["b_dec"]
        product = x @ t["W_enc"]
        if self.config["architecture"] == "gated":
            gate, size = product + t["b_gate"], product * t["r_mag"].exp() + t["b_mag"]
            on = (gate > 0) & (size > 0)
            return torch.where(on, size, torch.minimum(gate, size)), torch.where(on, size, 0)
        pre = product + t["b_enc"]
        if self.config["architecture"] == "jumprelu":
            return pre, pre.relu() * (pre > t["threshold"])
        if self.config["architecture"] == "topk":
            if self.config["rescale_acts_by_decoder_norm"]:
                pre = pre * t["W_dec"].norm(dim=-1)
            chosen = pre.topk(self.config["k"], dim=-1).indices
            return pre, torch.zeros_like(pre).scatter(-1, chosen, pre.gather(-1, chosen).relu())
        return pre, pre.relu()


def write(folder: Path, architecture: str, hook_name: str, d_in: int, seed: int = 0, **config: object) -> TinySae:
    """Write an autoencoder.

    Args:
        folder: where to; made if it is not there.
        architecture: standard, gated, jumprelu or topk.
        hook_name: "blocks.1.hook_resid_post".
        d_in: the width of that.
        seed: of the numbers.
        config: keys of cfg.json in place of the usual ones; a dictionary `metadata` is added to the usual one.
    """
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, D_SAE), "W_dec": (D_SAE, d_in), "b_dec": (d_in,)}
    own = {"gated": ("b_gate", "b_mag", "r_mag"), "jumprelu": ("b_enc", "threshold")}.get(architecture, ("b_enc",))
    shapes |= dict.fromkeys(own, (D_SAE,))
    tensors = {name: rng.standard_normal(shape).astype(np.float32) * 0.5 for name, shape in shapes.items()}
    metadata = {"model_name": "tiny", "hook_name": hook_name, "sae_lens_version": "6.54.12"}
    metadata |= config.pop("metadata", {})  # type: ignore[arg-type]
    settings = {
        "architecture": architecture,
        "d_in": d_in,
        "d_sae": D_SAE,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if hook_name.endswith("_z") else "none",
        **({"k": 3, "rescale_acts_by_decoder_norm": True} if architecture == "topk" else {}),
        "metadata": metadata,
        **config,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(settings))
    safetensors.numpy.save_file(tensors, folder / "sae_weights.safetensors")
    return TinySae(folder, settings, tensors)
