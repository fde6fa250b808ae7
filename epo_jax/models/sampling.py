"""Texts that a model writes itself: tokens drawn one after another, keys and values kept."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Bool, Float, Float32, Int32, Key
from numpy.typing import ArrayLike

from epo_jax.axes import PRNGKey, Vocabulary
from epo_jax.errors import EpoError
from epo_jax.models.blocks import Block, KeysValues, Layer
from epo_jax.models.config import DTYPES
from epo_jax.models.decoder import Decoder
from epo_jax.models.language_model import LanguageModel
from epo_jax.models.rotary import turns_at
from epo_jax.models.sites import NOBODY
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.parallel.placing import fetched


def sample(
    lm: LanguageModel,
    prefix_ids: ArrayLike,
    key: PRNGKey,
    count: int,
    length: int,
    temperature: float = 1.0,
    allowed: Bool[np.ndarray, " V"] | None = None,
) -> Int32[np.ndarray, "count length"]:
    """Continuations of a prefix, drawn from the model, each token given the prefix and those before it.

    Without a prefix the first token is drawn uniformly from the allowed ones. A sample is a function of the key and its
    number, so that more samples begin with the same ones.

    Args:
        lm: the model.
        prefix_ids: int[n], a BOS included; may be empty.
        key: what all randomness is a function of.
        count: samples.
        length: tokens of each.
        temperature: what logits are divided by before drawing, above 0.
        allowed: bool[V], tokens that may be drawn; by default all but special and unused ones.

    Returns:
        int32[count, length], on the host.

    Raises:
        EpoError: more tokens than the model takes, a prefix outside its vocabulary, or nothing to draw.
    """
    prefix = np.asarray(prefix_ids).reshape(-1)
    vocabulary = lm.config.vocab_size
    if prefix.size and (not np.issubdtype(prefix.dtype, np.integer) or prefix.min() < 0 or prefix.max() >= vocabulary):
        raise EpoError(f"prefix_ids: must be whole numbers within the vocabulary 0 to {vocabulary - 1}")
    if count < 1 or length < 1:
        raise EpoError(f"sample: {count} samples of {length} tokens, where both must be at least 1")
    if prefix.size + length > lm.config.max_positions:
        raise EpoError(
            f"sample: {prefix.size} tokens of a prefix and {length} of a sample are more than the "
            f"{lm.config.max_positions} that the model takes"
        )
    if not 0 < temperature < math.inf:
        raise EpoError(f"temperature: is {temperature}, where a finite number above 0 is read")
    usable = allowed_tokens(lm.tokenizer, vocabulary) if allowed is None else np.asarray(allowed, np.bool_)
    if usable.shape != (vocabulary,) or not usable.any():
        raise EpoError(f"allowed: must be bool[{vocabulary}] with a token to draw")
    usable = np.pad(usable, (0, lm.config.room_for_tokens - vocabulary))
    drawn = _sample(
        lm.graphdef, lm.params, prefix.astype(np.int32), key, usable, np.float32(temperature), count, length
    )
    return np.asarray(fetched(drawn))


@functools.partial(jax.jit, static_argnums=(0, 6, 7))
def _sample(
    graphdef: nnx.GraphDef[Decoder],
    params: nnx.State,
    prefix: Int32[Array, " n"],
    key: PRNGKey,
    allowed: Vocabulary,
    temperature: Float32[Array, ""],
    count: int,
    length: int,
) -> Int32[Array, "count length"]:
    decoder = nnx.merge(graphdef, params)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))

    def drawn(logits: Float32[Array, "count V"], place: int | Int32[Array, ""]) -> Int32[Array, " count"]:
        return _draw(jax.vmap(jax.random.fold_in, (0, None))(keys, place), logits / temperature, allowed)

    past = None
    # Without a prefix nothing is known of the first token.
    logits = jnp.zeros((count, allowed.shape[0]), jnp.float32)
    if prefix.shape[0]:
        hidden, _, cache = decoder(decoder.embed(prefix[None]))
        past = jax.tree.map(lambda a: a[:, 0], cache)
        logits = jnp.broadcast_to(decoder.unembed(hidden[:, -1]), logits.shape)

    def advance(
        carry: tuple[KeysValues, Int32[Array, " count"]], place: Int32[Array, ""]
    ) -> tuple[tuple[KeysValues, Int32[Array, " count"]], Int32[Array, " count"]]:
        own, tokens = carry
        hidden, own = run_one(decoder, tokens, place, past, own)
        tokens = drawn(decoder.unembed(hidden), place + 1)
        return (own, tokens), tokens

    first = drawn(logits, 0)
    _, others = jax.lax.scan(advance, (_room(decoder, count, length), first), jnp.arange(length - 1, dtype=jnp.int32))
    return jnp.concatenate([first[None], others]).T


def _draw(keys: Key[Array, " count"], logits: Float32[Array, "count V"], allowed: Vocabulary) -> Int32[Array, " count"]:
    drawn = jax.vmap(jax.random.categorical)(keys, jnp.where(allowed, logits, -jnp.inf))
    return drawn.astype(jnp.int32)


def _room(decoder: Decoder, count: int, length: int) -> KeysValues:
    """Room [L, count, length, ...] for the keys and values of the samples' tokens."""
    c = decoder.config
    nothing = jnp.zeros((c.layers, count, length, c.kv_heads, c.head_dim), DTYPES[c.dtype])
    return KeysValues(nothing, nothing)


def run_one(
    decoder: Decoder,
    tokens: Int32[Array, " count"],
    place: Int32[Array, ""],
    past: KeysValues | None,
    own: KeysValues,
) -> tuple[Float[Array, "count D"], KeysValues]:
    """Run one token of each sample.

    Args:
        decoder: the model.
        tokens: int32[count].
        place: where they stand in their samples.
        past: keys and values [L, n, ...] of the prefix.
        own: keys and values [L, count, length, ...] of the samples' tokens, of which those before `place` are there.

    Returns:
        The rows that predict the next tokens, dtype[count, D], and `own` with these tokens.
    """
    before = 0 if past is None else past.keys.shape[1]
    positions = jnp.broadcast_to(before + place, (tokens.shape[0], 1))
    turns = turns_at(decoder.config.rotary, positions)

    def advance(
        block: Block, layer: Layer, x: Float[Array, "count 1 D"], kept: tuple[KeysValues | None, KeysValues]
    ) -> tuple[Float[Array, "count 1 D"], KeysValues]:
        past, own = kept
        tap = NOBODY.at(layer.number)
        queries, mine, _ = block.enter(x, turns, layer, tap, None)
        own = jax.tree.map(lambda all, one: jax.lax.dynamic_update_slice_in_dim(all, one, place, 1), own, mine)
        z, _ = block.attention.mix(queries, own, layer, past, place)
        return block.leave(x, z, tap, None)[0], own

    x, own = decoder.scan(advance, decoder.embed(tokens[:, None], positions), (past, own))
    return decoder.norm(x)[:, 0], own
