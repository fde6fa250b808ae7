"""The one decoder: a stack of pre-norm blocks, scanned, whose named sites can be observed.

An observer sees the values that pass through a block instead of hooking into it: at each site that it names, the block
hands over the value and carries on what the observer keeps of it. Sites have TransformerLens's names. Sites that nobody
reads cost nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int

from epo_jax.axes import Hidden
from epo_jax.models.config import ACTIVATIONS, DTYPES, DecoderConfig

RESID_PRE = "blocks.{l}.hook_resid_pre"  # [B, S, D]
PATTERN = "blocks.{l}.attn.hook_pattern"  # [B, S, H, S], from query to key
Z = "blocks.{l}.attn.hook_z"  # [B, S, H, head_dim]
ATTN_OUT = "blocks.{l}.hook_attn_out"  # [B, S, D]
RESID_MID = "blocks.{l}.hook_resid_mid"  # [B, S, D]
MLP_POST = "blocks.{l}.mlp.hook_post"  # [B, S, F], the input of the down projection, after the gate
MLP_OUT = "blocks.{l}.hook_mlp_out"  # [B, S, D]
RESID_POST = "blocks.{l}.hook_resid_post"  # [B, S, D]
SITES = (RESID_PRE, PATTERN, Z, ATTN_OUT, RESID_MID, MLP_POST, MLP_OUT, RESID_POST)

Kept = Any


@dataclasses.dataclass(frozen=True)
class Observer:
    """What to look at on the way through the blocks.

    Attributes:
        sites: names out of `SITES`; at others `observe` is not called.
        observe: (kept, site, layer, value) -> kept, where layer is a traced int32 and kept a pytree of fixed shapes.
    """

    sites: tuple[str, ...]
    observe: Callable[[Kept, str, Array, Array], Kept]


NOBODY = Observer((), lambda kept, _site, _layer, _value: kept)
Tap = Callable[[Kept, str, Array], Kept]


def rotary_angles(config: DecoderConfig, positions: Int[Array, " S"]) -> Float32[Array, "S head_dim"]:
    """Angle by which each component of a head is turned at each position, in radians (RoFormer, arXiv 2104.09864)."""
    exponents = jnp.arange(0, config.head_dim, 2, dtype=jnp.float32) / config.head_dim
    angles = positions[:, None].astype(jnp.float32) * config.rope_theta**-exponents
    return jnp.concatenate([angles, angles], axis=-1)


def rotate(x: Float[Array, "B S heads head_dim"], angles: Float32[Array, "S head_dim"]) -> Float[Array, "B S heads _"]:
    """Turn the heads of x by their positions' angles; component i pairs with i + head_dim / 2."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([-second, first], axis=-1)
    return (x * jnp.cos(angles)[:, None] + turned * jnp.sin(angles)[:, None]).astype(x.dtype)


class Attention(nnx.Module):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        linear = _linear(config, config.attention_bias, rngs)
        self.config = config
        self.query = linear(config.width, config.heads * config.head_dim)
        self.key = linear(config.width, config.kv_heads * config.head_dim)
        self.value = linear(config.width, config.kv_heads * config.head_dim)
        self.output = linear(config.heads * config.head_dim, config.width)

    def __call__(self, x: Hidden, angles: Float32[Array, "S head_dim"], tap: Tap, kept: Kept) -> tuple[Hidden, Kept]:
        """Mix the normed residual stream x over earlier positions."""
        c = self.config
        batch, length, _ = x.shape
        queries = rotate(self.query(x).reshape(batch, length, c.heads, c.head_dim), angles)
        keys = rotate(self.key(x).reshape(batch, length, c.kv_heads, c.head_dim), angles)
        values = self.value(x).reshape(batch, length, c.kv_heads, c.head_dim)
        groups = queries.reshape(batch, length, c.kv_heads, c.heads // c.kv_heads, c.head_dim)
        product = functools.partial(jnp.einsum, precision=c.precision, preferred_element_type=jnp.float32)
        scores = product("bqkgd,bskd->bqkgs", groups, keys) * c.head_dim**-0.5
        causal = jnp.arange(length)[:, None] >= jnp.arange(length)
        pattern = jax.nn.softmax(jnp.where(causal[:, None, None, :], scores, -jnp.inf), axis=-1).astype(x.dtype)
        kept = tap(kept, PATTERN, pattern.reshape(batch, length, c.heads, length))
        z = product("bqkgs,bskd->bqkgd", pattern, values).astype(x.dtype)
        kept = tap(kept, Z, z.reshape(batch, length, c.heads, c.head_dim))
        return self.output(z.reshape(batch, length, c.heads * c.head_dim)), kept


class MLP(nnx.Module):
    """Gated MLP; its neurons are the products of gate and up projections."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        linear = _linear(config, config.mlp_bias, rngs)
        self.activation = ACTIVATIONS[config.activation]
        self.gate = linear(config.width, config.mlp_width)
        self.up = linear(config.width, config.mlp_width)
        self.down = linear(config.mlp_width, config.width)

    def __call__(self, x: Hidden, tap: Tap, kept: Kept) -> tuple[Hidden, Kept]:
        """Transform each position of the normed residual stream x."""
        neurons = self.activation(self.gate(x)) * self.up(x)
        return self.down(neurons), tap(kept, MLP_POST, neurons)


class Block(nnx.Module):
    """One layer: attention and MLP, each behind a norm and beside a residual connection."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.attention_norm = _norm(config, rngs)
        self.attention = Attention(config, rngs)
        self.mlp_norm = _norm(config, rngs)
        self.mlp = MLP(config, rngs)

    def __call__(self, x: Hidden, angles: Float32[Array, "S head_dim"], tap: Tap, kept: Kept) -> tuple[Hidden, Kept]:
        """Advance the residual stream by one layer."""
        kept = tap(kept, RESID_PRE, x)
        mixed, kept = self.attention(self.attention_norm(x), angles, tap, kept)
        kept = tap(kept, ATTN_OUT, mixed)
        x = x + mixed
        kept = tap(kept, RESID_MID, x)
        transformed, kept = self.mlp(self.mlp_norm(x), tap, kept)
        kept = tap(kept, MLP_OUT, transformed)
        x = x + transformed
        return x, tap(kept, RESID_POST, x)


class Decoder(nnx.Module):
    """Embedding, scanned blocks, final norm and head."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        dtype = DTYPES[config.dtype]
        self.config = config
        self.embedding = nnx.Embed(config.vocab_size, config.width, dtype=dtype, param_dtype=dtype, rngs=rngs)

        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap(in_axes=0, out_axes=0)
        def stack(rngs: nnx.Rngs) -> Block:
            return Block(config, rngs)

        self.blocks = stack(rngs)
        self.norm = _norm(config, rngs)
        self.head = None if config.tied else _linear(config, False, rngs)(config.width, config.vocab_size)

    def embed(self, ids: Int[Array, "B S"]) -> Hidden:
        """Embeddings of token ids, as they enter the first block."""
        return self.embedding(ids)

    def embedding_gradient(self, gradient: Hidden) -> Float32[Array, "B S V"]:
        """Gradient with respect to one-hot tokens, given the gradient with respect to their embeddings."""
        return self._product("bsd,vd->bsv", gradient, self.embedding.embedding[...])

    def __call__(self, embeddings: Hidden, observer: Observer = NOBODY, kept: Kept = None) -> tuple[Hidden, Kept]:
        """Run the blocks over whole sequences.

        Args:
            embeddings: dtype[B, S, D].
            observer: what to look at on the way.
            kept: what the observer starts from.

        Returns:
            The normed final residual stream, dtype[B, S, D], and what the observer kept.
        """
        angles = rotary_angles(self.config, jnp.arange(embeddings.shape[1]))
        graphdef, parameters = nnx.split(self.blocks)

        def advance(carry: tuple[Hidden, Kept], layer: tuple[Array, nnx.State]) -> tuple[tuple[Hidden, Kept], None]:
            index, block_parameters = layer

            def tap(kept: Kept, site: str, value: Array) -> Kept:
                return observer.observe(kept, site, index, value) if site in observer.sites else kept

            block = nnx.merge(graphdef, block_parameters)
            return block(carry[0], angles, tap, carry[1]), None

        layers = jnp.arange(self.config.layers, dtype=jnp.int32)
        (x, kept), _ = jax.lax.scan(advance, (embeddings, kept), (layers, parameters))
        return self.norm(x), kept

    def unembed(self, hidden: Float[Array, "*rows D"]) -> Float32[Array, "*rows V"]:
        """Logits of rows of the normed final residual stream."""
        if self.head is None:
            return self._product("...d,vd->...v", hidden, self.embedding.embedding[...])
        return self._product("...d,dv->...v", hidden, self.head.kernel[...])

    def _product(self, subscripts: str, left: Array, right: Array) -> Array:
        return jnp.einsum(subscripts, left, right, precision=self.config.precision, preferred_element_type=jnp.float32)


@functools.lru_cache(maxsize=64)
def abstract_decoder(config: DecoderConfig) -> tuple[nnx.GraphDef[Decoder], nnx.State]:
    """The decoder's structure and its parameters' shapes, with nothing allocated; one object per configuration."""
    graphdef, parameters = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
    return graphdef, parameters


def _linear(config: DecoderConfig, bias: bool, rngs: nnx.Rngs) -> Callable[[int, int], nnx.Linear]:
    dtype = DTYPES[config.dtype]
    return functools.partial(
        nnx.Linear, use_bias=bias, dtype=dtype, param_dtype=dtype, precision=config.precision, rngs=rngs
    )


def _norm(config: DecoderConfig, rngs: nnx.Rngs) -> nnx.RMSNorm:
    dtype = DTYPES[config.dtype]
    return nnx.RMSNorm(config.width, epsilon=config.norm_eps, dtype=dtype, param_dtype=dtype, rngs=rngs)
