"""One layer of the decoder: attention and MLP, each beside a residual connection."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.models.config import ACTIVATIONS, DTYPES, DecoderConfig
from epo_jax.models.rotary import Turns
from epo_jax.models.sites import ATTN_OUT, MLP_OUT, MLP_POST, RESID_MID, RESID_POST, RESID_PRE, Kept, Tap, Z


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeysValues:
    """Keys (after rotation) and values of tokens; leading axes as the function says that returns them."""

    keys: Float[Array, "*tokens kv_heads head_dim"]
    values: Float[Array, "*tokens kv_heads head_dim"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    """What tells one layer from another beside its parameters; of all layers together, with a leading axis L.

    Attributes:
        number: int32, from 0.
        rotary: int32, the way in which its heads turn.
        window: int32, tokens that a token sees, itself included.
        scale: float32, factor of the products of queries and keys.
    """

    number: Int32[Array, "*L"]
    rotary: Int32[Array, "*L"]
    window: Int32[Array, "*L"]
    scale: Float32[Array, "*L"]


def layers_of(config: DecoderConfig) -> Layer:
    """All layers of a decoder."""
    count = config.layers
    windows = np.asarray(config.windows or (0,) * count)
    scale = config.head_dim**-0.5 if config.query_scale is None else config.query_scale
    scales = scale / np.arange(1, count + 1) if config.scale_by_layer else np.full(count, scale)
    return Layer(
        number=jnp.arange(count, dtype=jnp.int32),
        rotary=jnp.asarray(config.layer_rotary or (0,) * count, jnp.int32),
        window=jnp.asarray(np.where(windows > 0, windows, np.iinfo(np.int32).max), jnp.int32),
        scale=jnp.asarray(scales, jnp.float32),
    )


class Attention(nnx.Module):
    """Grouped-query attention."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        projection = linear(config, config.attention_bias, rngs)
        inner, kv_inner = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.config = config
        self.query = projection(config.width, inner)
        self.key = projection(config.width, kv_inner)
        self.value = projection(config.width, kv_inner)
        self.output = linear(config, config.output_bias, rngs)(inner, config.width)
        sizes = {"none": None, "head": (config.head_dim, config.head_dim), "projection": (inner, kv_inner)}
        normed = sizes[config.qk_norm]
        self.query_norm = None if normed is None else norm(config, normed[0], rngs)
        self.key_norm = None if normed is None else norm(config, normed[1], rngs)

    def project(self, x: Float[Array, "*rows D"], turns: Turns) -> tuple[Float[Array, "*rows H head_dim"], KeysValues]:
        """Queries, keys and values of rows of what the layer reads, given the turns of its own way."""
        c, rows = self.config, x.shape[:-1]
        queries, keys = self.query(x), self.key(x)
        if c.qk_norm == "projection":
            queries, keys = self.query_norm(queries), self.key_norm(keys)  # type: ignore[misc]
        queries = queries.reshape(*rows, c.heads, c.head_dim)
        keys = keys.reshape(*rows, c.kv_heads, c.head_dim)
        if c.qk_norm == "head":
            queries, keys = self.query_norm(queries), self.key_norm(keys)  # type: ignore[misc]
        values = self.value(x).reshape(*rows, c.kv_heads, c.head_dim)
        return turns.turn(queries), KeysValues(turns.turn(keys), values)

    def mix(
        self,
        queries: Float[Array, "B S H head_dim"],
        own: KeysValues,
        layer: Layer,
        past: KeysValues | None = None,
        first: int | Int32[Array, ""] = 0,
    ) -> tuple[Float[Array, "B S H head_dim"], Float[Array, "B S H keys"]]:
        """Weighted sums of values: each token sees itself and those before it, as far as the layer's window reaches.

        Args:
            queries: of S tokens of each sequence.
            own: keys and values of the sequences' tokens, these among them; what stands behind them is not seen.
            layer: this one.
            past: keys and values [n, ...] of tokens that stand before all sequences.
            first: which of the sequences' tokens the first of the S is.

        Returns:
            dtype[B, S, H, head_dim], and the pattern dtype[B, S, H, n + own tokens].
        """
        c = self.config
        batch, count, _, _ = queries.shape
        before = 0 if past is None else past.keys.shape[0]
        groups = queries.reshape(batch, count, c.kv_heads, c.heads // c.kv_heads, c.head_dim)
        product = functools.partial(jnp.einsum, precision=c.precision, preferred_element_type=jnp.float32)
        scores = product("bqkgd,bskd->bqkgs", groups, own.keys)
        if past is not None:
            scores = jnp.concatenate([product("bqkgd,skd->bqkgs", groups, past.keys), scores], axis=-1)
        scores = softcapped(scores * layer.scale, c.attention_softcap)
        places = before + first + jnp.arange(count)
        distance = places[:, None] - jnp.arange(before + own.keys.shape[1])
        visible = distance >= 0
        if c.windows:
            visible &= distance < layer.window
        scores = jnp.where(visible[:, None, None, :], scores, -jnp.inf)
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
        self.config = config
        self.activation = ACTIVATIONS[config.activation]
        self.gate = projection(config.width, config.room_for_neurons) if config.gated else None
        self.up = projection(config.width, config.room_for_neurons)
        self.down = projection(config.room_for_neurons, config.width)

    def __call__(self, x: Float[Array, "*rows D"], tap: Tap, kept: Kept) -> tuple[Float[Array, "*rows D"], Kept]:
        """Transform rows of what the layer reads."""
        up = self.up(x)
        neurons = self.activation(up) if self.gate is None else self.activation(self.gate(x)) * up
        # Neurons that only fill up the room are nobody's business.
        shown = neurons if self.config.mlp_rows is None else neurons[..., : self.config.mlp_width]
        return self.down(neurons), tap(kept, MLP_POST, shown)


class Block(nnx.Module):
    """One layer.

    What happens to each row by itself stands in `enter` and `leave`, so that rows can be packed in any way; only
    `Attention.mix` between them looks at several tokens.
    """

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        def maybe(there: bool) -> Callable[[Array], Array]:
            return norm(config, config.width, rngs) if there else _same

        self.parallel, self.shared = config.parallel_residual, config.shared_norm
        self.attention_norm = maybe(config.pre_norm)
        self.attention = Attention(config, rngs)
        self.attention_post_norm = maybe(config.post_norm)
        self.mlp_norm = maybe(config.pre_norm and not config.shared_norm)
        self.mlp = MLP(config, rngs)
        self.mlp_post_norm = maybe(config.post_norm)

    def enter(
        self, x: Float[Array, "*rows D"], turns: Turns, layer: Layer, tap: Tap, kept: Kept
    ) -> tuple[Float[Array, "*rows H head_dim"], KeysValues, Kept]:
        """Queries, keys and values of rows of the residual stream."""
        kept = tap(kept, RESID_PRE, x)
        queries, keys_values = self.attention.project(self.attention_norm(x), turns.of(layer.rotary))
        return queries, keys_values, kept

    def leave(
        self, x: Float[Array, "*rows D"], z: Float[Array, "*rows H head_dim"], tap: Tap, kept: Kept
    ) -> tuple[Float[Array, "*rows D"], Kept]:
        """The residual stream after the layer, given what attention brought to each row."""
        kept = tap(kept, Z, z)
        mixed = self.attention_post_norm(self.attention.output(z.reshape(*z.shape[:-2], -1)))
        kept = tap(kept, ATTN_OUT, mixed)
        middle = x + mixed
        # With a parallel residual no part of the model ever reads the stream between attention and MLP.
        kept = tap(kept, RESID_MID, None if self.parallel else middle)
        read = (self.attention_norm if self.shared else self.mlp_norm)(x if self.parallel else middle)
        transformed, kept = self.mlp(read, tap, kept)
        transformed = self.mlp_post_norm(transformed)
        kept = tap(kept, MLP_OUT, transformed)
        after = middle + transformed
        return after, tap(kept, RESID_POST, after)


def softcapped(values: Float32[Array, "*shape"], cap: float | None) -> Float32[Array, "*shape"]:
    """Values between -cap and cap, nearly the same where they are small; the values themselves without a cap."""
    return values if cap is None else cap * jnp.tanh(values / cap)


def linear(config: DecoderConfig, bias: bool, rngs: nnx.Rngs) -> Callable[[int, int], nnx.Linear]:
    """The maker of linear maps in the configuration's dtype and precision: (in, out) -> map."""
    dtype = DTYPES[config.dtype]
    return functools.partial(
        nnx.Linear, use_bias=bias, dtype=dtype, param_dtype=dtype, precision=config.precision, rngs=rngs
    )


def norm(config: DecoderConfig, width: int, rngs: nnx.Rngs) -> nnx.RMSNorm | nnx.LayerNorm:
    """A norm, computed in float32 by flax, whose result is rounded to the configuration's dtype.

    Its parameters are float32 always: some families add one to a scale that was stored in half precision.
    """
    settings = {"epsilon": config.norm_eps, "dtype": DTYPES[config.dtype], "param_dtype": jnp.float32, "rngs": rngs}
    if config.norm == "rms":
        return nnx.RMSNorm(width, **settings)
    # The mean is taken off before squaring: flax's faster formula loses the digits of a row that is far from zero.
    return nnx.LayerNorm(width, use_fast_variance=False, **settings)


def _same(x: Array) -> Array:
    return x
