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
QK_NORMS = ("none", "head", "projection")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}


@dataclasses.dataclass(frozen=True)
class Rotary:
    """A way of turning heads with the position (RoFormer, arXiv 2104.09864), every scaling of positions worked in.

    Attributes:
        frequencies: radians per position of each pair of a head's components; zeros turn nothing.
        factor: of all cosines and sines, the attention factor of YaRN and LongRoPE.
    """

    frequencies: tuple[float, ...]
    factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape and switches of a decoder; hashable, so that it can be a static argument of jitted functions.

    Attributes:
        vocab_size: rows of the embedding (V), padding rows of the checkpoint included.
        width: model width (D).
        layers: number of blocks (L).
        heads: query heads (H).
        kv_heads: key and value heads; divides `heads`.
        head_dim: width of one head.
        mlp_width: neurons of one block's MLP (F).
        max_positions: longest sequence that the model was made for.
        norm_eps: added to the mean square, or to the variance, in every norm.
        rotary: the ways of turning heads that layers have, of equally many frequencies; none with learned positions.
        layer_rotary: for each layer the one that it has; empty where all have the first.
        windows: for each layer the tokens that a token sees, itself included, 0 for all before it; empty where all see
            all.
        learned_positions: whether each position has an embedding.
        norm: one of `NORMS`: "rms" has a scale, "layer" takes the mean off and has a scale and a bias.
        pre_norm: whether attention and MLP read the normed residual stream.
        post_norm: whether what attention and MLP give is normed before it joins the residual stream.
        qk_norm: one of `QK_NORMS`: what queries and keys are normed over before they turn, each head or all together.
        activation: a key of `ACTIVATIONS`.
        gated: whether the MLP multiplies its up projection by an activated gate.
        parallel_residual: whether the MLP reads the block's input beside attention, not what attention has added to it.
        shared_norm: whether the two then read it through one norm.
        tied: whether the head is the embedding.
        attention_bias: biases on query, key and value projections.
        output_bias: a bias on attention's output projection.
        mlp_bias: biases on the MLP's projections.
        head_bias: a bias on the head.
        query_scale: factor of the products of queries and keys; None for one over the root of `head_dim`.
        scale_by_layer: whether that factor is divided by the layer's number, counted from one.
        attention_softcap: c in c tanh(score / c) of attention's scores; None for none.
        logit_softcap: the same of the logits.
        embedding_scale: factor of the embeddings, rounded to `dtype`.
        dtype: a key of `DTYPES`; parameters and products have it.
        vocab_rows: tokens that embedding and head have room for, zeros behind `vocab_size`, so that devices can share
            them evenly; None for no more than there are.
        mlp_rows: the same of neurons, behind `mlp_width`.
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
    rotary: tuple[Rotary, ...] = ()
    layer_rotary: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()
    learned_positions: bool = False
    norm: str = "rms"
    pre_norm: bool = True
    post_norm: bool = False
    qk_norm: str = "none"
    activation: str = "silu"
    gated: bool = True
    parallel_residual: bool = False
    shared_norm: bool = False
    tied: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    query_scale: float | None = None
    scale_by_layer: bool = False
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    dtype: str = "float32"
    vocab_rows: int | None = None
    mlp_rows: int | None = None

    @property
    def room_for_tokens(self) -> int:
        """Rows of the embedding as it lies in memory."""
        return self.vocab_size if self.vocab_rows is None else self.vocab_rows

    @property
    def room_for_neurons(self) -> int:
        """Neurons of one block's MLP as it lies in memory."""
        return self.mlp_width if self.mlp_rows is None else self.mlp_rows

    @property
    def rotary_dim(self) -> int:
        """Components of each head that turn with the position; the others stay as they are."""
        return 2 * len(self.rotary[0].frequencies) if self.rotary else 0

    @property
    def precision(self) -> jax.lax.Precision:
        """Of matrix products: float32 means float32, not the TF32 or bfloat16 passes that accelerators default to."""
        return jax.lax.Precision.HIGHEST if self.dtype == "float32" else jax.lax.Precision.DEFAULT
