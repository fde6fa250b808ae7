"""The model that a peer runs, with the weights and on the kind of device that it is compared on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers


def load(task: dict[str, Any]) -> transformers.PreTrainedModel:
    """The model, without a cache of keys and values and without gradients of weights, as both peers ask for it."""
    if task["device"] == "cuda" and not torch.cuda.is_available():
        sys.exit("the peer's PyTorch finds no GPU, and ours runs on one")
    dtype: torch.dtype = getattr(torch, task["dtype"])
    source: dict[str, str] = task["source"]
    automatic = transformers.AutoModelForCausalLM
    torch.manual_seed(task["seed"])
    if "config" in source:
        with torch.device(task["device"]):
            model = automatic.from_config(transformers.AutoConfig.from_pretrained(source["config"]), dtype=dtype)
    elif "gguf" in source:
        file = Path(source["gguf"])
        model = automatic.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
    else:
        model = automatic.from_pretrained(source["folder"], dtype=dtype)
    model.config.use_cache = False
    return model.to(task["device"]).eval().requires_grad_(False)


def synchronizer(task: dict[str, Any]) -> Callable[[], None]:
    """What waits for the device."""
    return torch.cuda.synchronize if task["device"] == "cuda" else lambda: None


def described(model: transformers.PreTrainedModel) -> dict[str, Any]:
    """What the peer ran on."""
    device = next(model.parameters()).device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "attention": model.config._attn_implementation,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
