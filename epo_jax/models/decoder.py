"""The one decoder for all model families: a stack of pre-norm blocks, scanned, whose named sites can be observed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int

from epo_jax.axes import Hidden
from epo_jax.models.blocks import MLP, Attention, Block, KeysValues, linear, norm, rotary_angles, rotate
from epo_jax.models.config import DTYPES, DecoderConfig
from epo_jax.models.sites import (
    ATTN_OUT,
    MLP_OUT,
    MLP_POST,
    NOBODY,
    PATTERN,
    RESID_MID,
    RESID_POST,
    RESID_PRE,
    SITES,
    Kept,
    Observer,
    Tap,
    Z,
)

# The model's parts and its sites, for those who run the blocks or look into them.
__all__ = [
    "ATTN_OUT",
    "MLP",
    "MLP_OUT",
    "MLP_POST",
    "NOBODY",
    "PATTERN",
    "RESID_MID",
    "RESID_POST",
    "RESID_PRE",
    "SITES",
    "Attention",
    "Block",
    "Decoder",
    "Kept",
    "KeysValues",
    "Observer",
    "Tap",
    "Z",
    "abstract_decoder",
    "rotary_angles",
    "rotate",
]

Carry = TypeVar("Carry")


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
        self.norm = norm(config, rngs)
        self.head = None if config.tied else linear(config, False, rngs)(config.width, config.vocab_size)

    def embed(self, ids: Int[Array, "*rows"]) -> Float[Array, "*rows D"]:
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

    def logit(self, hidden: Float[Array, "*rows D"], tokens: Int[Array, "*rows"]) -> Float32[Array, "*rows"]:
        """The logit of one token for each row of the normed final residual stream."""
        if self.head is None:
            return self._product("...d,...d->...", hidden, self.embedding.embedding[...][tokens])
        return self._product("...d,d...->...", hidden, self.head.kernel[...][:, tokens])

    def _product(self, subscripts: str, left: Array, right: Array) -> Array:
        return jnp.einsum(subscripts, left, right, precision=self.config.precision, preferred_element_type=jnp.float32)


@functools.lru_cache(maxsize=64)
def abstract_decoder(config: DecoderConfig) -> tuple[nnx.GraphDef[Decoder], nnx.State]:
    """The decoder's structure and its parameters' shapes, with nothing allocated; one object per configuration."""
    graphdef, parameters = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
    return graphdef, parameters
