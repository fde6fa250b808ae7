"""What families with LayerNorm and a plain MLP have in common (GPT-NeoX, GPT-2, GPT-J, Phi)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epo_jax.errors import EpoError
from epo_jax.models.config import DecoderConfig
from epo_jax.models.families.base import decoder_config


def head_width(settings: Mapping[str, Any], source: str) -> int:
    """The width of one head, where the heads share the model's.

    Raises:
        EpoError: they do not divide it.
    """
    width, heads = settings["width"], settings["heads"]
    if width % heads:
        raise EpoError(f"{source}: not a valid configuration: {heads} heads do not divide the width {width}")
    return int(width // heads)


def layer_norm_config(source: str, settings: Mapping[str, Any], **more: Any) -> DecoderConfig:
    """The configuration with these settings, and those that the families share.

    Raises:
        EpoError: settings that no decoder can have.
    """
    shared = {"kv_heads": settings["heads"], "norm": "layer", "gated": False, "mlp_bias": True}
    return decoder_config(source, **shared | {"head_dim": head_width(settings, source)} | dict(settings) | more)
