"""What is kept of prompts that others are made from, so that it is never computed twice."""

from __future__ import annotations

import dataclasses

import jax
from jax import Array
from jaxtyping import Float, Float32

from epo_jax.features.base import Values
from epo_jax.models.decoder import KeysValues


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prefix:
    """Rows of the frozen tokens before all prompts.

    Attributes:
        keys_values: [L, n, kv_heads, head_dim].
        hidden: dtype[D], the normed final residual stream of the last, which predicts the first optimized token.
        values: the features' values, arrays [R, n, ...], where they read every token; None elsewhere.
    """

    keys_values: KeysValues
    hidden: Float[Array, " D"]
    values: Values | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ParentRows:
    """Rows of prompts, W = optimized tokens and suffix; the gradient pass leaves them.

    Of a prompt of fewer tokens than T, what is told of those places behind its end that the suffix does not take means
    nothing.

    Attributes:
        keys_values: [N, L, W, kv_heads, head_dim].
        predictors: dtype[N, T, D], for each optimized token the normed final residual stream that predicts it: with the
            log-normalizer it gives the log-probability of any token, in a V-th of the memory.
        normalizer: float32[N, T], log-sum-exp of those rows' logits; 0 where a token has no predecessor.
        surprisal: float32[N, T], of the prompt's own tokens in nats; 0 where a token has no predecessor.
        values: the feature's values at each token, arrays [N, W, ...]; those that come from the head's output, only
            where they are read.
    """

    keys_values: KeysValues
    predictors: Float[Array, "N T D"]
    normalizer: Float32[Array, "N T"]
    surprisal: Float32[Array, "N T"]
    values: Values
