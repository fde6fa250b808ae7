"""Model families: how a checkpoint's configuration and tensor names become the one decoder's. Data, no forward pass.

A new family is one module with a `FAMILY` and one line in `FAMILIES`.
"""

from __future__ import annotations

from epo_jax.models.families import llama
from epo_jax.models.families.base import Family

FAMILIES: tuple[Family, ...] = (llama.FAMILY,)

__all__ = ["FAMILIES", "Family"]
