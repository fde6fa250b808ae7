"""Write tests/features/sae_golden: autoencoders by the sae-lens package, and what it computes with them.

Run once with each version whose files are to be read; it writes what that version can write:

    pip install sae-lens==6.54.12 && python tests/support/write_sae_goldens.py
    pip install sae-lens==5.11.0 && python tests/support/write_sae_goldens.py
    pip install sae-lens==3.23.4 && python tests/support/write_sae_goldens.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import sae_lens
import torch

FOLDER = Path(__file__).parents[1] / "features" / "sae_golden"
# A tiny model's width (of heads: 6 of width 6), and latents.
D_IN, D_SAE, ROWS, HEADS = 36, 16, 10, 6
VERSION = sae_lens.__version__
MODERN = int(VERSION.split(".")[0]) >= 6


def fill(sae: Any, seed: int) -> Any:
    """Random parameters; thresholds and biases so that latents are on and off."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sae.named_parameters():
        scale = {"b_dec": 0.3, "W_enc": 0.3, "W_dec": 0.5}.get(name, 0.4)
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
        if name == "threshold":
            parameter.data = parameter.data.abs()
    return sae


def inputs(seed: int, *shape: int) -> torch.Tensor:
    return 0.5 + 1.5 * torch.randn((ROWS, *shape), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def expect(folder: Path, sae: Any, values: torch.Tensor, scale: float = 1.0) -> None:
    """Write what the package computes for values at the site: all latents' activations and search values."""
    before: list[torch.Tensor] = []

    def keep(value: torch.Tensor, hook: Any) -> None:
        before.append(value.clone())

    sae.hook_sae_acts_pre.add_hook(keep)
    scaled = values * scale
    activations = sae.encode(scaled)
    (search,) = before
    sae.reset_hooks()
    assert ((activations == 0).any() and (activations > 0).any()).item()
    if hasattr(sae, "b_gate"):
        gate = (scaled - sae.b_dec) @ sae.W_enc + sae.b_gate
        search = torch.where((gate > 0) & (search > 0), search, torch.minimum(gate, search))
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        search = search * sae.W_dec.norm(dim=-1)
    np.savez(folder / "expected.npz", values=values.numpy(), activations=activations.numpy(), search=search.numpy())


def write(name: str, sae: Any, values: torch.Tensor, scale: float = 1.0) -> Path:
    folder = FOLDER / f"{name}-v{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    sae.save_model(str(folder))
    expect(folder, sae, values, scale)
    return folder


def metadata(hook_name: str) -> Any:
    from sae_lens.saes.sae import SAEMetadata

    return SAEMetadata(
        model_name="tiny",
        hook_name=hook_name,
        model_class_name="HookedTransformer",
        hook_head_index=None,
        context_size=32,
        prepend_bos=True,
        exclude_special_tokens=False,
        dataset_path="text",
        seqpos_slice=(None,),
        model_from_pretrained_kwargs={"center_writing_weights": False},
        sequence_separator_token="bos",
        disable_concat_sequences=False,
    )


def write_modern() -> None:
    post, z = "blocks.1.hook_resid_post", "blocks.2.attn.hook_z"
    flat = inputs(0, D_IN)

    def config(kind: str, hook_name: str = post, **settings: Any) -> Any:
        settings = {"d_in": D_IN, "d_sae": D_SAE, "metadata": metadata(hook_name), **settings}
        return getattr(sae_lens, f"{kind}SAEConfig")(**settings)

    write("standard", fill(sae_lens.StandardSAE(config("Standard")), 1), flat)
    write("gated", fill(sae_lens.GatedSAE(config("Gated")), 2), flat)
    write("jumprelu", fill(sae_lens.JumpReLUSAE(config("JumpReLU", apply_b_dec_to_input=False)), 3), flat)
    write("topk", fill(sae_lens.TopKSAE(config("TopK", k=3)), 4), flat)
    write("topk-rescaled", fill(sae_lens.TopKSAE(config("TopK", k=3, rescale_acts_by_decoder_norm=True)), 5), flat)
    write("layer-norm", fill(sae_lens.StandardSAE(config("Standard", normalize_activations="layer_norm")), 6), flat)
    of_heads = config("Standard", z, normalize_activations="constant_norm_rescale", reshape_activations="hook_z")
    write("hook-z", fill(sae_lens.StandardSAE(of_heads), 7), inputs(1, HEADS, D_IN // HEADS))
    folder = FOLDER / f"bfloat16-v{VERSION}"
    half = fill(sae_lens.StandardSAE(config("Standard", dtype="bfloat16")), 8)
    half.to(dtype=torch.bfloat16).save_model(folder)
    expect(folder, sae_lens.SAE.load_from_disk(folder, dtype="float32"), flat)

    training = fill(sae_lens.BatchTopKTrainingSAE(config("BatchTopKTraining", k=2.5)), 9)
    training.topk_threshold = torch.tensor(0.8, dtype=torch.double)
    folder = FOLDER / f"batchtopk-v{VERSION}"
    training.save_inference_model(folder)
    expect(folder, sae_lens.SAE.load_from_disk(folder), flat)

    from sae_lens.training.activation_scaler import ActivationScaler

    # A checkpoint, whose factor is not folded in yet.
    checkpoint = config("StandardTraining", normalize_activations="expected_average_only_in")
    folder = write("checkpoint", fill(sae_lens.StandardTrainingSAE(checkpoint), 10), flat, scale=0.37)
    ActivationScaler(scaling_factor=0.37).save(str(folder / "activation_scaler.json"))

    write_gemma_scope(flat)


def write_gemma_scope(values: torch.Tensor) -> None:
    """A params.npz as published, and what the package's own loader makes of it."""
    from sae_lens.loading import pretrained_sae_loaders as loaders

    repo, inside = "google/gemma-scope-2b-pt-mlp", "layer_1/width_16k/average_l0_71"
    folder = FOLDER / f"gemma-scope-v{VERSION}" / repo / inside
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(11)
    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": D_SAE, "b_dec": D_IN, "threshold": D_SAE}
    arrays = {name: 0.3 * generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["threshold"] = np.abs(arrays["threshold"])
    np.savez(folder / "params.npz", **arrays)
    with mock.patch.object(loaders, "hf_hub_download", return_value=str(folder / "params.npz")):
        loaded, weights, _ = loaders.gemma_2_sae_huggingface_loader(
            repo, inside, cfg_overrides={"d_in": D_IN, "d_sae": D_SAE}
        )
    sae = sae_lens.SAE.from_dict(loaders.handle_config_defaulting(loaded))
    sae.load_state_dict(weights)
    assert sae.cfg.metadata.hook_name == "blocks.1.hook_mlp_out"
    expect(folder, sae, values)


def write_old() -> None:
    from sae_lens.sae import SAE, SAEConfig

    def config(architecture: str, hook_name: str = "blocks.1.hook_resid_pre", **settings: Any) -> Any:
        common: dict[str, Any] = {
            "architecture": architecture,
            "d_in": D_IN,
            "d_sae": D_SAE,
            "activation_fn_str": "relu",
            "apply_b_dec_to_input": True,
            "finetuning_scaling_factor": False,
            "context_size": 32,
            "model_name": "tiny",
            "hook_name": hook_name,
            "hook_layer": 1,
            "hook_head_index": None,
            "prepend_bos": True,
            "dataset_path": "text",
            "dataset_trust_remote_code": True,
            "normalize_activations": "none",
            "dtype": "torch.float32",
            "device": "cpu",
            "sae_lens_training_version": VERSION,
            "model_from_pretrained_kwargs": {"center_writing_weights": False},
        }
        return SAEConfig(**{**common, **settings})

    flat = inputs(0, D_IN)
    write("standard", fill(SAE(config("standard")), 1), flat)
    topk = config("standard", activation_fn_str="topk", activation_fn_kwargs={"k": 3})
    write("topk", fill(SAE(topk), 4), flat)
    if VERSION.startswith("3."):
        return
    write("gated", fill(SAE(config("gated")), 2), flat)
    write("jumprelu", fill(SAE(config("jumprelu", apply_b_dec_to_input=False)), 3), flat)
    of_heads = config("standard", "blocks.1.attn.hook_z", normalize_activations="layer_norm")
    write("hook-z", fill(SAE(of_heads), 5), inputs(1, HEADS, D_IN // HEADS))
    write("finetuned", fill(SAE(config("standard", finetuning_scaling_factor=True)), 6), flat)


if __name__ == "__main__":
    (write_modern if MODERN else write_old)()
    print(*sorted(path.name for path in FOLDER.iterdir()))
