"""What runs on the devices: windows of a corpus, and hits as the prompts that they would be by themselves."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.corpus.groups import Group, run_groups
from epo_jax.corpus.hits import Hits, absorb, no_hits
from epo_jax.models.decoder import Decoder
from epo_jax.scoring.forward import rows_of_logits, surprisal


def empty(groups: Sequence[Group], devices: int, keep: int) -> list[Hits]:
    """The hits of each group before anything was seen, arrays [devices, parts, width, ...]."""
    return [no_hits((devices, group.parts, group.width), keep) for group in groups]


@functools.partial(jax.jit, static_argnames=("graphdef", "length"), donate_argnames="hits")
def scan_windows(
    graphdef: nnx.GraphDef[Decoder],
    params: nnx.State,
    groups: Sequence[Group],
    prefix: Int32[Array, " n"],
    hits: list[Hits],
    ids: Int32[Array, "R B S"],
    lengths: Int32[Array, "R B"],
    first: Int32[Array, " R"],
    length: int,
) -> list[Hits]:
    """The hits after some more windows.

    Args:
        graphdef: the model's structure.
        params: its parameters.
        groups: what is read.
        prefix: tokens before each window, such as a BOS.
        hits: of each group, arrays [R, parts, width, ...] for R devices.
        ids: windows, B on each device.
        lengths: tokens that count in each.
        first: number of each device's first window in the corpus.
        length: tokens of a dream; a hit has as many up to it.
    """
    decoder = nnx.merge(graphdef, params)
    before = prefix.shape[0]

    def on_one(hits: list[Hits], ids: Array, lengths: Array, first: Array) -> list[Hits]:
        batch, context = ids.shape
        tokens = jnp.concatenate([jnp.broadcast_to(prefix, (batch, before)), ids], axis=1)
        column = jnp.arange(context)
        counts = (column >= length - 1) & (column < lengths[:, None])
        windows = first + jnp.arange(batch, dtype=jnp.int32)

        def sink(hits: Hits, values: Float[Array, "B S F"]) -> Hits:
            return absorb(hits, values[:, before:], counts, windows)

        return run_groups(decoder, groups, sink, hits, tokens)[0]

    return jax.vmap(on_one)(hits, ids, lengths, first)


@functools.partial(jax.jit, static_argnames="graphdef")
def score_isolated(
    graphdef: nnx.GraphDef[Decoder],
    params: nnx.State,
    groups: Sequence[Group],
    prefix: Int32[Array, " n"],
    ids: Int32[Array, "N T"],
) -> tuple[Float32[Array, "N F"], Float32[Array, " N"]]:
    """All features at the last of T tokens, those of the groups one after the other, and cross-entropies.

    Cross-entropies are in nats/token, as a dream's are: over all tokens after a prefix, over all but the first without.
    """
    decoder = nnx.merge(graphdef, params)
    before, (count, length) = prefix.shape[0], ids.shape
    tokens = jnp.concatenate([jnp.broadcast_to(prefix, (count, before)), ids], axis=1)

    def sink(_: Array, values: Float[Array, "N S F"]) -> Array:
        return values[:, -1].astype(jnp.float32)

    kept = [jnp.zeros((group.parts, count, group.width), jnp.float32) for group in groups]
    kept, hidden = run_groups(decoder, groups, sink, kept, tokens)
    flat = [jnp.moveaxis(values, 0, 1).reshape(count, -1) for values in kept]

    first = 0 if before else 1
    predictors = hidden[:, before + first - 1 : before + length - 1]

    def nats(row: tuple[Array, Array]) -> Float32[Array, " T"]:
        return surprisal(decoder.unembed(row[0]), row[1])[0]

    at_once = max(1, rows_of_logits(decoder.config.vocab_size) // length)
    each = jax.lax.map(nats, (predictors, ids[:, first:]), batch_size=min(count, at_once))
    return jnp.concatenate(flat, axis=1), each.mean(axis=1)
