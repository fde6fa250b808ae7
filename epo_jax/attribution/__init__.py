"""Which tokens of a prompt a feature needs: causal token attribution as in the paper's figure 1."""

from epo_jax.attribution.causal import ALTERNATIVES, attribute
from epo_jax.attribution.result import Attribution

__all__ = ["ALTERNATIVES", "Attribution", "attribute"]
