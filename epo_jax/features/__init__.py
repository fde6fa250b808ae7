"""Features of a language model that a dream can maximize: one file per kind, one line each in `parse.KINDS`."""

from epo_jax.features.base import Feature
from epo_jax.features.callable import reads
from epo_jax.features.parse import parse_feature

__all__ = ["Feature", "parse_feature", "reads"]
