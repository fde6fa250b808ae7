"""What a run ran on."""

from __future__ import annotations

import importlib.metadata
import platform

import jax

PACKAGES = ("epo-jax", "jax", "jaxlib", "flax", "transformers", "tokenizers", "gguf", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers, and the device's name."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind}",
    }
