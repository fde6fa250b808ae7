"""Model families: how a checkpoint's configuration and tensor names become the one decoder's. Data, no forward pass.

A new family is one module with a `FAMILY` and one line in `FAMILIES`.
"""

from __future__ import annotations

from epo_jax.errors import EpoError
from epo_jax.models.families import (
    gemma,
    gemma2,
    gemma3,
    gpt2,
    gpt_j,
    gpt_neox,
    llama,
    mistral,
    olmo2,
    phi,
    phi3,
    qwen2,
    qwen3,
    smollm3,
)
from epo_jax.models.families.base import Family

FAMILIES: tuple[Family, ...] = (
    llama.FAMILY,
    gpt_neox.FAMILY,
    mistral.FAMILY,
    olmo2.FAMILY,
    phi3.FAMILY,
    qwen2.FAMILY,
    qwen3.FAMILY,
    smollm3.FAMILY,
    gpt2.FAMILY,
    gpt_j.FAMILY,
    phi.FAMILY,
    gemma.FAMILY,
    gemma2.FAMILY,
    gemma3.FAMILY,
)

__all__ = ["FAMILIES", "Family", "family_of_gguf", "family_of_hf"]


def family_of_hf(architecture: str, source: str) -> Family:
    """The family whose model's class a config.json names.

    Raises:
        EpoError: there is none, with those that there are.
    """
    return _family({family.hf_architecture: family for family in FAMILIES}, architecture, source)


def family_of_gguf(architecture: str, source: str) -> Family:
    """The family whose architecture a GGUF file names.

    Raises:
        EpoError: there is none, with those that there are.
    """
    return _family(
        {family.gguf_architecture: family for family in FAMILIES if family.gguf_architecture}, architecture, source
    )


def _family(families: dict[str, Family], architecture: str, source: str) -> Family:
    # Compared and not looked up, since what a damaged file names may be anything.
    for name, family in families.items():
        if name == architecture:
            return family
    raise EpoError(f"{source}: architecture {architecture!r} is not supported; supported are: {', '.join(families)}")
