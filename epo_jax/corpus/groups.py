"""Features that are read together at every token: neurons of whole layers, latents of an autoencoder, any others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.autoencoders.settings import JUMPRELU, TOPK
from epo_jax.features.base import LOGITS, OUTSIDE, Feature
from epo_jax.features.sae import Latent
from epo_jax.models.decoder import MLP_POST, Decoder, Observer
from epo_jax.scoring.forward import rows_of_logits

STATIC = {"static": True}
Part = Any
# (a part's arrays, values [B, S, F] of its features) -> its arrays
Sink = Callable[[Part, Float[Array, "B S F"]], Part]


@runtime_checkable
class Group(Protocol):
    """A pytree of `parts` times `width` features; what is kept of them has a leading axis of `parts`.

    Attributes:
        parts: how often the sink is called in a pass.
        width: features of each call.
        sites: that are looked at.
    """

    @property
    def parts(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def sites(self) -> tuple[str, ...]: ...

    def scratch(self, shape: tuple[int, int]) -> Any:
        """What is carried through the blocks for [B, S] tokens, beside what is kept."""
        ...

    def observe(
        self, sink: Sink, scratch: Any, kept: Part, site: str, layer: Int32[Array, ""], value: Float[Array, "B S ..."]
    ) -> tuple[Any, Part]:
        """Scratch and what is kept after a site was seen."""
        ...

    def finish(self, sink: Sink, scratch: Any, kept: Part, decoder: Decoder, hidden: Float[Array, "B S D"]) -> Part:
        """What is kept after the normed final residual stream was seen."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Neurons:
    """All MLP neurons of some layers.

    Attributes:
        layers: int32[parts], ascending.
        width: neurons of a layer.
    """

    layers: Int32[Array, " parts"]
    width: int = dataclasses.field(metadata=STATIC)

    @property
    def parts(self) -> int:
        """Layers."""
        return self.layers.shape[0]

    @property
    def sites(self) -> tuple[str, ...]:
        """The input of the down projection."""
        return (MLP_POST,)

    def scratch(self, shape: tuple[int, int]) -> None:
        """Nothing: a layer is done with when it was seen."""

    def observe(
        self, sink: Sink, scratch: None, kept: Part, site: str, layer: Int32[Array, ""], value: Float[Array, "B S F"]
    ) -> tuple[None, Part]:
        """Give a layer that counts to the sink."""
        own = self.layers == layer
        return None, _at(sink, kept, own.any(), own.argmax(), lambda: value[..., : self.width])

    def finish(self, sink: Sink, scratch: None, kept: Part, decoder: Decoder, hidden: Float[Array, "B S D"]) -> Part:
        """Nothing is left to do."""
        return kept


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Latents:
    """All latents of an autoencoder, as SAELens's `encode` gives them.

    Attributes:
        latents: a stack of all of them; encoders [F, N].
        k: of a top-k autoencoder, how many are not zero at a token; 0 for others.
    """

    latents: Latent
    k: int = dataclasses.field(metadata=STATIC)

    @property
    def parts(self) -> int:
        """One."""
        return 1

    @property
    def width(self) -> int:
        """Latents."""
        return self.latents.bias.shape[0]

    @property
    def sites(self) -> tuple[str, ...]:
        """What the autoencoder reads."""
        return self.latents.sites

    def scratch(self, shape: tuple[int, int]) -> None:
        """Nothing."""

    def observe(
        self, sink: Sink, scratch: None, kept: Part, site: str, layer: Int32[Array, ""], value: Float[Array, "B S ..."]
    ) -> tuple[None, Part]:
        """Encode at the autoencoder's block."""
        here = layer == self.latents.layer[0]
        return None, _at(sink, kept, here, jnp.int32(0), lambda: self.encoded(value))

    def finish(self, sink: Sink, scratch: None, kept: Part, decoder: Decoder, hidden: Float[Array, "B S D"]) -> Part:
        """Nothing is left to do."""
        return kept

    def encoded(self, value: Float[Array, "B S ..."]) -> Float32[Array, "B S F"]:
        """Activations of all latents."""
        latents = self.latents
        one = jax.tree.map(lambda leaf: leaf[0], latents)  # what `read` uses is the same in all
        x = jax.vmap(jax.vmap(one.read))(value)
        precise = jax.lax.Precision.HIGHEST
        product = jnp.einsum("bsn,fn->bsf", x - one.center, latents.encoder, precision=precise)
        pre = latents.of_product(product)
        if latents.architecture == TOPK:
            smallest = jax.lax.top_k(pre, self.k)[0][..., -1:]
            return jnp.where(pre >= smallest, jnp.maximum(pre, 0), 0)
        threshold = latents.threshold if latents.architecture == JUMPRELU else 0.0
        return jnp.where(pre > threshold, jnp.maximum(pre, 0), 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Logits:
    """Logit differences, which share one pass over the vocabulary for its two largest logits.

    Attributes:
        tokens: int32[F].
    """

    tokens: Int32[Array, " F"]

    @property
    def parts(self) -> int:
        """One."""
        return 1

    @property
    def width(self) -> int:
        """Tokens."""
        return self.tokens.shape[0]

    @property
    def sites(self) -> tuple[str, ...]:
        """None of a block."""
        return ()

    def scratch(self, shape: tuple[int, int]) -> None:
        """Nothing."""

    def observe(
        self, sink: Sink, scratch: None, kept: Part, site: str, layer: Int32[Array, ""], value: Float[Array, "B S ..."]
    ) -> tuple[None, Part]:
        """Nothing is read in the blocks."""
        return None, kept

    def finish(self, sink: Sink, scratch: None, kept: Part, decoder: Decoder, hidden: Float[Array, "B S D"]) -> Part:
        """Each token's logit above the largest other one."""

        def row(hidden: Float[Array, " D"]) -> Float32[Array, " F"]:
            logits = decoder.unembed(hidden)
            # Plain maxima alone: on a CPU the place of one takes several times longer than the number.
            first = logits.max()
            second = jnp.where(logits < first, logits, -jnp.inf).max()
            second = jnp.where((logits == first).sum() > 1, first, second)
            own = logits[self.tokens]
            return own - jnp.where(own == first, second, first)

        values = _by_rows(row, hidden, decoder)
        return jax.tree.map(lambda leaf: leaf[None], sink(jax.tree.map(lambda leaf: leaf[0], kept), values))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Others:
    """Features of one kind, each read by itself.

    Attributes:
        features: a stack [F, ...].
    """

    features: Feature

    @property
    def parts(self) -> int:
        """One."""
        return 1

    @property
    def width(self) -> int:
        """Features."""
        return int(jax.tree.leaves(self.features)[0].shape[0])

    @property
    def sites(self) -> tuple[str, ...]:
        """What they read, the head's output apart."""
        return tuple(site for site in self.features.sites if site not in OUTSIDE)

    def scratch(self, shape: tuple[int, int]) -> Any:
        """What each feature keeps of each token, arrays [B, S, F, ...]."""
        empty = jax.tree.map(lambda leaf: leaf[0], self.features).empty()
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*shape, self.width, *leaf.shape)), empty)

    def observe(
        self, sink: Sink, scratch: Any, kept: Part, site: str, layer: Int32[Array, ""], value: Float[Array, "B S ..."]
    ) -> tuple[Any, Part]:
        """Show the site's value to each feature."""

        def one(feature: Feature, kept: Any, value: Array) -> Any:
            return feature.observe(kept, site, layer, value)

        each = jax.vmap(one, (0, 0, None))
        return jax.vmap(jax.vmap(each, (None, 0, 0)), (None, 0, 0))(self.features, scratch, value), kept

    def finish(self, sink: Sink, scratch: Any, kept: Part, decoder: Decoder, hidden: Float[Array, "B S D"]) -> Part:
        """Show the head's output where it is read, and give all to the sink."""
        if LOGITS in self.features.sites:
            scratch = self._with_logits(scratch, decoder, hidden)

        def value(feature: Feature, kept: Any) -> Any:
            return feature.value(kept)

        values = jax.vmap(jax.vmap(jax.vmap(value), (None, 0)), (None, 0))(self.features, scratch)
        return jax.tree.map(lambda leaf: leaf[None], sink(jax.tree.map(lambda leaf: leaf[0], kept), values))

    def _with_logits(self, scratch: Any, decoder: Decoder, hidden: Float[Array, "B S D"]) -> Any:
        def row(inputs: tuple[Array, Any]) -> Any:
            logits = decoder.unembed(inputs[0])

            def one(feature: Feature, kept: Any) -> Any:
                return feature.observe(kept, LOGITS, jnp.int32(decoder.config.layers), logits)

            return jax.vmap(one)(self.features, inputs[1])

        return _by_rows(row, (hidden, scratch), decoder)


def run_groups(
    decoder: Decoder, groups: Sequence[Group], sink: Sink, kept: Sequence[Part], tokens: Int32[Array, "B S"]
) -> tuple[list[Part], Float[Array, "B S D"]]:
    """One pass of the model over sequences, in which all groups' features are read.

    Args:
        decoder: the model.
        groups: what is read.
        sink: what is done with their values.
        kept: for each group, arrays with a leading axis of its parts.
        tokens: whole sequences.

    Returns:
        What is kept for each group, and the normed final residual stream.
    """

    def observe(carried: Any, site: str, layer: Array, value: Array) -> Any:
        return [
            group.observe(sink, scratch, kept, site, layer, value) if site in group.sites else (scratch, kept)
            for group, (scratch, kept) in zip(groups, carried, strict=True)
        ]

    shape = (tokens.shape[0], tokens.shape[1])
    carried = [(group.scratch(shape), part) for group, part in zip(groups, kept, strict=True)]
    sites = tuple(dict.fromkeys(site for group in groups for site in group.sites))
    hidden, carried, _ = decoder(decoder.embed(tokens), Observer(sites, observe), carried)
    done = [
        group.finish(sink, scratch, part, decoder, hidden)
        for group, (scratch, part) in zip(groups, carried, strict=True)
    ]
    return done, hidden


def _by_rows(row: Callable[[Any], Any], arrays: Any, decoder: Decoder) -> Any:
    """A function of one token over arrays [B, S, ...], as many at a time as logits may be in memory."""
    shape = jax.tree.leaves(arrays)[0].shape[:2]
    tokens = shape[0] * shape[1]
    flat = jax.tree.map(lambda leaf: leaf.reshape(tokens, *leaf.shape[2:]), arrays)
    found = jax.lax.map(row, flat, batch_size=min(tokens, rows_of_logits(decoder.config.vocab_size)))
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), found)


def _at(sink: Sink, kept: Part, here: Array, part: Array, values: Callable[[], Float[Array, "B S F"]]) -> Part:
    """What is kept after the sink saw the values of one part, if they are here."""

    def update(kept: Part) -> Part:
        one = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, part, keepdims=False), kept)
        new = sink(one, values())
        return jax.tree.map(lambda leaf, own: jax.lax.dynamic_update_index_in_dim(leaf, own, part, 0), kept, new)

    return jax.lax.cond(here, update, lambda kept: kept, kept)
