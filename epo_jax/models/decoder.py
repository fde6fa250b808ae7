"""The one decoder for all model families: a stack of blocks, scanned, whose named sites can be observed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import PartitionSpec
from jaxtyping import Float, Float32, Int

from epo_jax.axes import Hidden
from epo_jax.models.blocks import MLP, Attention, Block, KeysValues, Layer, layers_of, linear, norm, softcapped
from epo_jax.models.config import DTYPES, DecoderConfig
from epo_jax.models.parts import whole
from epo_jax.models.rotary import turns_at
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
from epo_jax.parallel.mesh import MODEL
from epo_jax.parallel.sharding import Layout

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
    "Layer",
    "Observer",
    "Tap",
    "Z",
    "abstract_decoder",
    "turns_at",
]

Carry = TypeVar("Carry")


class Decoder(nnx.Module):
    """Embedding, scanned blocks, final norm and head."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        dtype = DTYPES[config.dtype]
        self.config = config
        embed = functools.partial(nnx.Embed, features=config.width, dtype=dtype, param_dtype=dtype, rngs=rngs)
        self.embedding = embed(config.room_for_tokens)
        self.positions = embed(config.max_positions) if config.learned_positions else None

        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap(in_axes=0, out_axes=0)
        def stack(rngs: nnx.Rngs) -> Block:
            return Block(config, rngs)

        self.blocks = stack(rngs)
        self.norm = norm(config, config.width, rngs)
        head = linear(config, config.head_bias, rngs)
        self.head = None if config.tied else head(config.width, config.room_for_tokens)

    def embed(self, ids: Int[Array, "*rows"], positions: Int[Array, "*#rows"] | None = None) -> Float[Array, "*rows D"]:
        """Embeddings of token ids, as they enter the first block.

        Args:
            ids: tokens.
            positions: where they stand; by default at 0, 1, ... along the last axis.
        """
        embeddings = jnp.take(self._matrix("embedding"), ids, axis=0) * self._embedding_scale
        if self.positions is None:
            return embeddings
        positions = jnp.arange(ids.shape[-1]) if positions is None else positions
        return embeddings + jnp.take(self._matrix("positions"), positions, axis=0)

    def embedding_gradient(self, gradient: Hidden) -> Float32[Array, "B S V"]:
        """Gradient with respect to one-hot tokens, given the gradient with respect to what enters the first block."""
        scaled = gradient * self._embedding_scale
        return self._product("bsd,vd->bsv", scaled, self._matrix("embedding"))

    def scan(
        self, body: Callable[[Block, Layer, Carry, Any], tuple[Carry, Any]], carry: Carry, inputs: Any = None
    ) -> tuple[Carry, Any]:
        """Scan over the blocks.

        Args:
            body: (block, layer, carry, input) -> (carry, output).
            carry: what goes in at the bottom.
            inputs: a pytree of arrays with a leading axis L.

        Returns:
            What comes out at the top, and the outputs of all layers, stacked.
        """
        graphdef, parameters = nnx.split(self.blocks)

        def advance(carry: Carry, inputs: tuple[Layer, nnx.State, Any]) -> tuple[Carry, Any]:
            layer, block_parameters, more = inputs
            return body(nnx.merge(graphdef, self._put_together(block_parameters)), layer, carry, more)

        if self.in_parts:
            # A backward pass puts layers together once more: kept from the way there they would be the whole model. A
            # policy that keeps all but them is none, since what they are made of on the way counts as something else.
            advance = jax.checkpoint(advance, prevent_cse=False)
        return jax.lax.scan(advance, carry, (layers_of(self.config), parameters, inputs))

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
        turns = turns_at(self.config.rotary, positions)

        def advance(
            block: Block, layer: Layer, carry: tuple[Hidden, Kept], past: KeysValues | None
        ) -> tuple[tuple[Hidden, Kept], KeysValues]:
            x, kept = carry
            tap = observer.at(layer.number)
            queries, own, kept = block.enter(x, turns, layer, tap, kept)
            z, pattern = block.attention.mix(queries, own, layer, past)
            return block.leave(x, z, tap, tap(kept, PATTERN, pattern)), own

        (x, kept), cache = self.scan(advance, (embeddings, kept), past)
        return self.norm(x), kept, cache

    def unembed(self, hidden: Float[Array, "*rows D"]) -> Float32[Array, "*rows V"]:
        """Logits of rows of the normed final residual stream; minus infinity for tokens that only fill up the room."""
        if self.head is None:
            found = self._product("...d,vd->...v", hidden, self._matrix("embedding"))
        else:
            found = self._product("...d,dv->...v", hidden, self._matrix("head"))
        if self.head is not None and self.head.bias is not None:
            found += self.head.bias[...]
        found = softcapped(found, self.config.logit_softcap)
        if self.config.vocab_rows is None:
            return found
        return jnp.where(jnp.arange(found.shape[-1]) < self.config.vocab_size, found, -jnp.inf)

    def logit(self, hidden: Float[Array, "*rows D"], tokens: Int[Array, "*rows"]) -> Float32[Array, "*rows"]:
        """The logit of one token for each row of the normed final residual stream."""
        if self.head is None:
            found = self._product("...d,...d->...", hidden, self._matrix("embedding")[tokens])
        else:
            found = self._product("...d,d...->...", hidden, self._matrix("head")[:, tokens])
        if self.head is not None and self.head.bias is not None:
            found += self.head.bias[...][tokens]
        return softcapped(found, self.config.logit_softcap)

    @property
    def in_parts(self) -> bool:
        """Whether this device holds parts of parameters, which are put together where they are used."""
        _, parameters = nnx.split(self)
        shapes = _shapes(self.config)
        return any(leaf.get_value().shape != shapes[_name(path)] for path, leaf in nnx.to_flat_state(parameters))

    def with_whole_head(self) -> Decoder:
        """The same with a head that is put together, for loops that devices may run a different number of times."""
        if not self.in_parts:
            return self
        graphdef, parameters = nnx.split(self)
        used, flat = "embedding" if self.head is None else "head", []
        for path, variable in nnx.to_flat_state(parameters):
            put_together = (
                _whole(self.config, _name(path), variable.get_value()) if path[0] == used else variable.get_value()
            )
            flat.append((path, variable.replace(put_together)))
        return nnx.merge(graphdef, nnx.from_flat_state(flat))

    def _put_together(self, layer: nnx.State) -> nnx.State:
        """The whole parameters of one layer."""
        return nnx.from_flat_state(
            [
                (path, variable.replace(_whole(self.config, f"blocks.{_name(path)}", variable.get_value(), layer=True)))
                for path, variable in nnx.to_flat_state(layer)
            ]
        )

    def _matrix(self, name: str) -> Float[Array, "..."]:
        """The whole matrix of the embedding, of that of positions, or of the head."""
        kind = "kernel" if name == "head" else "embedding"
        return _whole(self.config, f"{name}.{kind}", getattr(getattr(self, name), kind)[...])

    @property
    def _embedding_scale(self) -> Array:
        return jnp.asarray(self.config.embedding_scale, DTYPES[self.config.dtype])

    def _product(self, subscripts: str, left: Array, right: Array) -> Array:
        return jnp.einsum(subscripts, left, right, precision=self.config.precision, preferred_element_type=jnp.float32)


@functools.lru_cache(maxsize=64)
def abstract_decoder(config: DecoderConfig) -> tuple[nnx.GraphDef[Decoder], nnx.State]:
    """The decoder's structure and its parameters' shapes, with nothing allocated; one object per configuration."""
    graphdef, parameters = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
    return graphdef, parameters


def _whole(config: DecoderConfig, name: str, part: Float[Array, "..."], layer: bool = False) -> Float[Array, "..."]:
    """A parameter, or one layer of a stack, put together."""
    shape = _shapes(config)[name]
    model = jax.sharding.get_abstract_mesh().shape.get(MODEL, 1)
    over_model = Layout(config, 1, model, fsdp=False).spec(name, shape)
    return whole(part, shape[1:], PartitionSpec(*over_model[1:])) if layer else whole(part, shape, over_model)


@functools.lru_cache(maxsize=64)
def _shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of whole parameters, by their names."""
    return {_name(path): leaf.get_value().shape for path, leaf in nnx.to_flat_state(abstract_decoder(config)[1])}


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
