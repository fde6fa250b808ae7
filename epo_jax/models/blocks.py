"""One layer of the decoder: attention and MLP, each behind a norm and beside a residual connection."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Bool, Float, Float32, Int

from epo_jax.models.config import ACTIVATIONS, DTYPES, DecoderConfig
from epo_jax.models.sites import ATTN_OUT, MLP_OUT, MLP_POST, RESID_MID, RESID_POST, RESID_PRE, Kept, Tap, Z


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeysValues:
    """Keys (after rotation) and values of tokens; leading axes as the function says that returns them."""

    keys: Float[Array, "*tokens kv_heads head_dim"]
    values: Float[Array, "*tokens kv_heads head_dim"]


def rotary_angles(config: DecoderConfig, positions: Int[Array, "*rows"]) -> Float32[Array, "*rows rotary_dim"]:
    """Angle by which each component of a head is turned at each position, in radians (RoFormer, arXiv 2104.09864)."""
    exponents = jnp.arange(0, config.rotary_dim, 2, dtype=jnp.float32) / config.rotary_dim
    angles = positions[..., None].astype(jnp.float32) * config.rope_theta**-exponents
    return jnp.concatenate([angles, angles], axis=-1)


def rotate(
    x: Float[Array, "*rows heads head_dim"], angles: Float32[Array, "*rows rotary_dim"]
) -> Float[Array, "*rows heads head_dim"]:
    """Turn the first rotary_dim components of x's heads by their positions' angles; i pairs with i + rotary_dim / 2."""
    angles = angles[..., None, :]
    turning, staying = jnp.split(x, [angles.shape[-1]], axis=-1)
    first, second = jnp.split(turning.astype(jnp.float32), 2, axis=-1)
    across = jnp.concatenate([-second, first], axis=-1)
    turned = (turning * jnp.cos(angles) + across * jnp.sin(angles)).astype(x.dtype)
    return jnp.concatenate([turned, staying], axis=-1)


class Attention(nnx.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        projection = linear(config, config.attention_bias, rngs)
        self.config = config
        self.query = projection(config.width, config.heads * config.head_dim)
        self.key = projection(config.width, config.kv_heads * config.head_dim)
        self.value = projection(config.width, config.kv_heads * config.head_dim)
        self.output = projection(config.heads * config.head_dim, config.width)

    def project(
        self, x: Float[Array, "*rows D"], angles: Float32[Array, "*rows rotary_dim"]
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
    """MLP whose neurons are the activations of its up projection, or, gated, that projection times those of a gate."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        projection = linear(config, config.mlp_bias, rngs)
        self.activation = ACTIVATIONS[config.activation]
        self.gate = projection(config.width, config.mlp_width) if config.gated else None
        self.up = projection(config.width, config.mlp_width)
        self.down = projection(config.mlp_width, config.width)

    def __call__(self, x: Float[Array, "*rows D"], tap: Tap, kept: Kept) -> tuple[Float[Array, "*rows D"], Kept]:
        """Transform rows of the normed residual stream."""
        up = self.up(x)
        neurons = self.activation(up) if self.gate is None else self.activation(self.gate(x)) * up
        return self.down(neurons), tap(kept, MLP_POST, neurons)


class Block(nnx.Module):
    """One layer.

    What happens to each row by itself stands in `enter` and `leave`, so that rows can be packed in any way; only
    `Attention.mix` between them looks at several tokens.
    """

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.parallel = config.parallel_residual
        self.attention_norm = norm(config, rngs)
        self.attention = Attention(config, rngs)
        self.mlp_norm = norm(config, rngs)
        self.mlp = MLP(config, rngs)

    def enter(
        self, x: Float[Array, "*rows D"], angles: Float32[Array, "*rows rotary_dim"], tap: Tap, kept: Kept
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
        middle = x + mixed
        # With a parallel residual no part of the model ever reads the stream between attention and MLP.
        kept = tap(kept, RESID_MID, None if self.parallel else middle)
        transformed, kept = self.mlp(self.mlp_norm(x if self.parallel else middle), tap, kept)
        kept = tap(kept, MLP_OUT, transformed)
        after = middle + transformed
        return after, tap(kept, RESID_POST, after)


def linear(config: DecoderConfig, bias: bool, rngs: nnx.Rngs) -> Callable[[int, int], nnx.Linear]:
    """The maker of linear maps in the configuration's dtype and precision: (in, out) -> map."""
    dtype = DTYPES[config.dtype]
    return functools.partial(
        nnx.Linear, use_bias=bias, dtype=dtype, param_dtype=dtype, precision=config.precision, rngs=rngs
    )


def norm(config: DecoderConfig, rngs: nnx.Rngs) -> nnx.RMSNorm | nnx.LayerNorm:
    """A norm over the model's width; flax computes it in float32 and rounds the result to the configuration's dtype."""
    dtype = DTYPES[config.dtype]
    settings = {"epsilon": config.norm_eps, "dtype": dtype, "param_dtype": dtype, "rngs": rngs}
    if config.norm == "rms":
        return nnx.RMSNorm(config.width, **settings)
    # The mean is taken off before squaring: flax's faster formula loses the digits of a row that is far from zero.
    return nnx.LayerNorm(config.width, use_fast_variance=False, **settings)
