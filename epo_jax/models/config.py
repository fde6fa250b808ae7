"""The settings of the one decoder that all model families share."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

ACTIVATIONS = {
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    # transformers's names for one function (gelu_fast is GPT-NeoX-20B's, gelu_new GPT-2's).
    **dict.fromkeys(("gelu_pytorch_tanh", "gelu_new", "gelu_fast"), lambda x: jax.nn.gelu(x, approximate=True)),
}
NORMS = ("rms", "layer")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape and switches of a decoder; hashable, so that it can be a static argument of jitted functions.

    Attributes:
        vocab_size: rows of the embedding (V), padding rows of the checkpoint included.
        width: model width (D).
        layers: number of blocks (L).
        heads: query heads (H).
        kv_heads: key and value heads; divides `heads`.
        head_dim: width of one head, even.
        mlp_width: neurons of one block's MLP (F).
        max_positions: longest sequence that the model was made for.
        norm_eps: added to the mean square, or to the variance, in every norm.
        rope_theta: base of the rotary position embedding.
        rotary_dim: components of each head that turn with the position, even; the others stay as they are.
        norm: one of `NORMS`: "rms" has a scale, "layer" takes the mean off and has a scale and a bias.
        activation: a key of `ACTIVATIONS`.
        gated: whether the MLP multiplies its up projection by an activated gate.
        parallel_residual: whether the MLP reads the block's input beside attention, not what attention has added to it.
        tied: whether the head is the embedding.
        attention_bias: biases on query, key, value and output projections.
        mlp_bias: biases on the MLP's projections.
        dtype: a key of `DTYPES`; parameters and products have it.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    max_positions: int
    norm_eps: float
    rope_theta: float
    rotary_dim: int
    norm: str = "rms"
    activation: str = "silu"
    gated: bool = True
    parallel_residual: bool = False
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    dtype: str = "float32"

    @property
    def precision(self) -> jax.lax.Precision:
        """Of matrix products: float32 means float32, not the TF32 or bfloat16 passes that accelerators default to."""
        return jax.lax.Precision.HIGHEST if self.dtype == "float32" else jax.lax.Precision.DEFAULT
