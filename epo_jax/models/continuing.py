"""How a model itself goes on: the likeliest token after a sequence, again and again, keys and values kept."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Int32
from numpy.typing import ArrayLike
from transformers import PreTrainedTokenizerFast

from epo_jax.axes import Vocabulary
from epo_jax.errors import EpoError
from epo_jax.models.blocks import KeysValues
from epo_jax.models.decoder import Decoder
from epo_jax.models.language_model import LanguageModel, checked_ids
from epo_jax.models.sampling import run_one
from epo_jax.models.tokenizers import known_tokens
from epo_jax.parallel.placing import fetched

TOKENS = 8
# Sequences of one call of the compiled program, whatever their number.
AT_ONCE = 16


def continuations(
    lm: LanguageModel, ids: ArrayLike, length: int = TOKENS, prefix_ids: ArrayLike = ()
) -> list[list[int]]:
    """The tokens that a model finds likeliest after each of some sequences, one by one (greedy decoding).

    Rows of the vocabulary without a token are never taken. Sequences are run in groups of one size, so that one
    compiled program serves any number of them.

    Args:
        lm: the model.
        ids: int[B, S], sequences of one length as they are; no BOS is added.
        length: tokens of each, or as many as the model has positions for.
        prefix_ids: int[n], tokens before all of them, which are run once for a group.

    Returns:
        The tokens of each continuation; an end-of-text token is the last one.

    Raises:
        EpoError: sequences that the model cannot take, or a length below 1.
    """
    if isinstance(length, bool) or length < 1:
        raise EpoError(f"length={length}: must be a whole number of at least 1")
    sequences = np.asarray(checked_ids(lm, ids))
    prefix = np.asarray(prefix_ids, np.int32).reshape(-1)
    whole = prefix.size + sequences.shape[1]
    if whole > lm.config.max_positions:
        raise EpoError(f"ids: {whole} tokens are more than the {lm.config.max_positions} that the model takes")
    # The last token is not run itself.
    length = min(length, lm.config.max_positions - whole + 1)
    known = known_tokens(lm.tokenizer, lm.config.room_for_tokens)
    found = []
    for start in range(0, len(sequences), AT_ONCE):
        part = sequences[start : start + AT_ONCE]
        filled = np.concatenate([part, np.broadcast_to(part[:1], (AT_ONCE - len(part), part.shape[1]))])
        tokens = fetched(_continued(lm.graphdef, lm.params, prefix, filled, known, length))
        found += tokens[: len(part)].tolist()
    return [_ended(tokens, lm.tokenizer) for tokens in found]


def _ended(tokens: list[int], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    end = tokenizer.eos_token_id
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@functools.partial(jax.jit, static_argnums=(0, 5))
def _continued(
    graphdef: nnx.GraphDef[Decoder],
    params: nnx.State,
    prefix: Int32[Array, " n"],
    ids: Int32[Array, "B S"],
    known: Vocabulary,
    length: int,
) -> Int32[Array, "B length"]:
    decoder, before, size = nnx.merge(graphdef, params), prefix.shape[0], ids.shape[1]
    past = None
    if before:
        _, _, cache = decoder(decoder.embed(prefix[None]))
        past = jax.tree.map(lambda a: a[:, 0], cache)
    hidden, _, own = decoder(decoder.embed(ids, before + jnp.arange(size)), past=past)
    room = ((0, 0), (0, 0), (0, length - 1), (0, 0), (0, 0))

    def likeliest(hidden: Array) -> Int32[Array, " B"]:
        return jnp.where(known, decoder.unembed(hidden), -jnp.inf).argmax(axis=-1).astype(jnp.int32)

    def advance(
        carry: tuple[KeysValues, Int32[Array, " B"]], place: Int32[Array, ""]
    ) -> tuple[tuple[KeysValues, Int32[Array, " B"]], Int32[Array, " B"]]:
        own, tokens = carry
        hidden, own = run_one(decoder, tokens, place, past, own)
        tokens = likeliest(hidden)
        return (own, tokens), tokens

    first = likeliest(hidden[:, -1])
    start = (jax.tree.map(lambda a: jnp.pad(a, room), own), first)
    _, others = jax.lax.scan(advance, start, size + jnp.arange(length - 1, dtype=jnp.int32))
    return jnp.concatenate([first[None], others]).T
