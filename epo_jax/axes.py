"""Names of the array axes, as jaxtyping aliases.

R dreams, P population, C candidates (P x children), T length (optimized tokens), S sequence (prefix + optimized +
suffix), L layers, D model width, F MLP width, H heads, V vocabulary, K top_k, B any batch of sequences.
"""

from __future__ import annotations

from jax import Array
from jaxtyping import Bool, Float, Float32, Int32, Key

PRNGKey = Key[Array, ""]
Sequences = Int32[Array, "B S"]
Prompts = Int32[Array, "P T"]
Children = Int32[Array, "C T"]
Slots = Float32[Array, " P"]
Vocabulary = Bool[Array, " V"]
TokenGradients = Float32[Array, "B T V"]
Hidden = Float[Array, "B S D"]
Logits = Float32[Array, "... V"]

__all__ = ["Children", "Hidden", "Logits", "PRNGKey", "Prompts", "Sequences", "Slots", "TokenGradients", "Vocabulary"]
