"""The one decoder: a stack of pre-norm blocks, scanned, whose named sites can be observed.

An observer sees the values that pass through a block instead of hooking into it: at each site that it names, the block
hands over the value and carries on what the observer keeps of it. Sites have TransformerLens's names. Sites that nobody
reads cost nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Bool, Float, Float32, Int

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
Tap = Callable[[Kept, str, Array], Kept]
Carry = TypeVar("Carry")


@dataclasses.dataclass(frozen=True)
class Observer:
    """What to look at on the way through the blocks.

    Attributes:
        sites: names out of `SITES`; at others `observe` is not called.
        observe: (kept, site, layer, value) -> kept, where layer is a traced int32 and kept a pytree of fixed shapes.
    """

    sites: tuple[str, ...]
    observe: Callable[[Kept, str, Array, Array], Kept]

    def at(self, layer: Array) -> Tap:
        """The observer as one layer sees it: (kept, site, value) -> kept."""

        def tap(kept: Kept, site: str, value: Array) -> Kept:
            return self.observe(kept, site, layer, value) if site in self.sites else kept

        return tap


NOBODY = Observer((), lambda kept, _site, _layer, _value: kept)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeysValues:
    """Keys (after rotation) and values of tokens; leading axes as the function says that returns them."""

    keys: Float[Array, "*tokens kv_heads head_dim"]
    values: Float[Array, "*tokens kv_heads head_dim"]


def rotary_angles(config: DecoderConfig, positions: Int[Array, "*rows"]) -> Float32[Array, "*rows head_dim"]:
    """Angle by which each component of a head is turned at each position, in radians (RoFormer, arXiv 2104.09864)."""
    exponents = jnp.arange(0, config.head_dim, 2, dtype=jnp.float32) / config.head_dim
    angles = positions[..., None].astype(jnp.float32) * config.rope_theta**-exponents
    return jnp.concatenate([angles, angles], axis=-1)


def rotate(
    x: Float[Array, "*rows heads head_dim"], angles: Float32[Array, "*rows head_dim"]
) -> Float[Array, "*rows heads head_dim"]:
    """Turn the heads of x by their positions' angles; component i pairs with i + head_dim / 2."""
    angles = angles[..., None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([-second, first], axis=-1)
    return (x * jnp.cos(angles) + turned * jnp.sin(angles)).astype(x.dtype)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        linear = _linear(config, config.attention_bias, rngs)
        self.config = config
        self.query = linear(config.width, config.heads * config.head_dim)
        self.key = linear(config.width, config.kv_heads * config.head_dim)
        self.value = linear(config.width, config.kv_heads * config.head_dim)
        self.output = linear(config.heads * config.head_dim, config.width)

    def project(
        self, x: Float[Array, "*rows D"], angles: Float32[Array, "*rows head_dim"]
    ) -> tuple[Float[Array, "*rows H head_dim"], KeysValues]:
        """Queries, keys and values of rows of the normed residual stream."""
        c, rows = self.config, x.shape[:-1]
        queries = rotate(self.query(x).reshape(*rows, c.heads, c.head_dim), angles)
        keys = rotate(self.key(x).reshape(*rows, c.kv_heads, c.head_dim), angles)
        return queries, KeysValues(keys, self.value(x).reshape(*rows, c.kv_heads, c.head_dim))

    def mix(
        self,
        queries: Float[Array, "B Q H head_dim"],
        own: KeysValues,
        visible: Bool[Array, "#B Q K"],
        past: KeysValues | None = None,
    ) -> tuple[Float[Array, "B Q H head_dim"], Float[Array, "B Q H keys"]]:
        """Weighted sums of values.

        Args:
            queries: of Q tokens of each sequence.
            own: keys and values of K tokens of each sequence.
            visible: which of them each query may see; every query must see one.
            past: keys and values [n, ...] of tokens that stand before all sequences and that every query sees.

        Returns:
            dtype[B, Q, H, head_dim], and the pattern dtype[B, Q, H, n + K].
        """
        c = self.config
        batch, count, _, _ = queries.shape
        groups = queries.reshape(batch, count, c.kv_heads, c.heads // c.kv_heads, c.head_dim)
        product = functools.partial(jnp.einsum, precision=c.precision, preferred_element_type=jnp.float32)
        scores = product("bqkgd,bskd->bqkgs", groups, own.keys) * c.head_dim**-0.5
        scores = jnp.where(visible[:, :, None, None, :], scores, -jnp.inf)
        before = 0 if past is None else past.keys.shape[0]
        if past is not None:
            seen = product("bqkgd,skd->bqkgs", groups, past.keys) * c.head_dim**-0.5
            scores = jnp.concatenate([seen, scores], axis=-1)
        pattern = jax.nn.softmax(scores, axis=-1).astype(queries.dtype)
        z = product("bqkgs,bskd->bqkgd", pattern[..., before:], own.values)
        if past is not None:
            z += product("bqkgs,skd->bqkgd", pattern[..., :before], past.values)
        z = z.astype(queries.dtype)
        return z.reshape(queries.shape), pattern.reshape(batch, count, c.heads, -1)


class MLP(nnx.Module):
    """Gated MLP; its neurons are the products of gate and up projections."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        linear = _linear(config, config.mlp_bias, rngs)
        self.activation = ACTIVATIONS[config.activation]
        self.gate = linear(config.width, config.mlp_width)
        self.up = linear(config.width, config.mlp_width)
        self.down = linear(config.mlp_width, config.width)

    def __call__(self, x: Float[Array, "*rows D"], tap: Tap, kept: Kept) -> tuple[Float[Array, "*rows D"], Kept]:
        """Transform rows of the normed residual stream."""
        neurons = self.activation(self.gate(x)) * self.up(x)
        return self.down(neurons), tap(kept, MLP_POST, neurons)


class Block(nnx.Module):
    """One layer: attention and MLP, each behind a norm and beside a residual connection.

    What happens to each row by itself stands in `enter` and `leave`, so that rows can be packed in any way; only
    `Attention.mix` between them looks at several tokens.
    """

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.attention_norm = _norm(config, rngs)
        self.attention = Attention(config, rngs)
        self.mlp_norm = _norm(config, rngs)
        self.mlp = MLP(config, rngs)

    def enter(
        self, x: Float[Array, "*rows D"], angles: Float32[Array, "*rows head_dim"], tap: Tap, kept: Kept
    ) -> tuple[Float[Array, "*rows H head_dim"], KeysValues, Kept]:
        """Queries, keys and values of rows of the residual stream."""
        kept = tap(kept, RESID_PRE, x)
        queries, keys_values = self.attention.project(self.attention_norm(x), angles)
        return queries, keys_values, kept

    def leave(
        self, x: Float[Array, "*rows D"], z: Float[Array, "*rows H head_dim"], tap: Tap, kept: Kept
    ) -> tuple[Float[Array, "*rows D"], Kept]:
        """The residual stream after the layer, given what attention brought to each row."""
        kept = tap(kept, Z, z)
        mixed = self.attention.output(z.reshape(*z.shape[:-2], -1))
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

    def scan(
        self, body: Callable[[Block, Array, Carry, Any], tuple[Carry, Any]], carry: Carry, inputs: Any = None
    ) -> tuple[Carry, Any]:
        """Scan over the blocks.

        Args:
            body: (block, layer, carry, input) -> (carry, output), where layer is a traced int32.
            carry: what goes in at the bottom.
            inputs: a pytree of arrays with a leading axis L.

        Returns:
            What comes out at the top, and the outputs of all layers, stacked.
        """
        graphdef, parameters = nnx.split(self.blocks)

        def advance(carry: Carry, inputs: tuple[Array, nnx.State, Any]) -> tuple[Carry, Any]:
            layer, block_parameters, more = inputs
            return body(nnx.merge(graphdef, block_parameters), layer, carry, more)

        layers = jnp.arange(self.config.layers, dtype=jnp.int32)
        return jax.lax.scan(advance, carry, (layers, parameters, inputs))

    def __call__(
        self, embeddings: Hidden, observer: Observer = NOBODY, kept: Kept = None, past: KeysValues | None = None
    ) -> tuple[Hidden, Kept, KeysValues]:
        """Run the blocks over sequences.

        Args:
            embeddings: dtype[B, S, D].
            observer: what to look at on the way.
            kept: what the observer starts from.
            past: keys and values [L, n, ...] of tokens that stand before all sequences.

        Returns:
            The normed final residual stream dtype[B, S, D], what the observer kept, and the sequences' keys and values
            [L, B, S, ...].
        """
        batch, length, _ = embeddings.shape
        before = 0 if past is None else past.keys.shape[1]
        positions = jnp.broadcast_to(jnp.arange(before, before + length), (batch, length))
        angles = rotary_angles(self.config, positions)
        causal = (jnp.arange(length)[:, None] >= jnp.arange(length))[None]

        def advance(
            block: Block, layer: Array, carry: tuple[Hidden, Kept], past: KeysValues | None
        ) -> tuple[tuple[Hidden, Kept], KeysValues]:
            x, kept = carry
            tap = observer.at(layer)
            queries, own, kept = block.enter(x, angles, tap, kept)
            z, pattern = block.attention.mix(queries, own, causal, past)
            return block.leave(x, z, tap, tap(kept, PATTERN, pattern)), own

        (x, kept), cache = self.scan(advance, (embeddings, kept), past)
        return self.norm(x), kept, cache

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
