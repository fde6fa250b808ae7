"""From gradients to children: one uniformly drawn position, one uniformly drawn token of its K best.

All draws are functions of (key, iteration, slot, child) alone. A token is drawn from the set of the K best as the id
with the least hash, never by its rank: gradients of batches and of single prompts differ in their last bits, which
reorders ranks but hardly ever changes the set.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32, Key, UInt32

from epo_jax.axes import PRNGKey, Prompts, Vocabulary


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Proposals:
    """The set of tokens that may replace each token.

    Attributes:
        ids: int32[N, T, K], in no order that matters.
        usable: bool[N, T, K]; entries that are not are banned, or the token already there, and no part of the set.
    """

    ids: Int32[Array, "*N T K"]
    usable: Bool[Array, "*N T K"]


def top_tokens(
    gradients: Float32[Array, "N T V"], ids: Int32[Array, "N T"], allowed: Vocabulary, top_k: int
) -> Proposals:
    """The K allowed tokens, other than the one already there, with the greatest gradient at each position."""
    usable = allowed & (jnp.arange(allowed.shape[0]) != ids[..., None])
    # A gradient that is not a number ranks below all numbers, but above what may not be used.
    ranked = jnp.where(usable, jnp.nan_to_num(gradients, nan=jnp.finfo(jnp.float32).min), -jnp.inf)
    _, best = jax.lax.top_k(ranked, top_k)
    return Proposals(best, jnp.take_along_axis(usable, best, axis=-1))


def make_children(
    keys: Key[Array, " N"], ids: Int32[Array, "N T"], proposals: Proposals, numbers: Int32[Array, "N n"]
) -> tuple[Int32[Array, "N n T"], Int32[Array, "N n"]]:
    """Children of prompts, and the one position at which each differs from its parent.

    Args:
        keys: of this iteration and each prompt's slot.
        ids: int32[N, T], the parents.
        proposals: tokens that may replace each token.
        numbers: int32[N, n], the numbers of the children wanted; a child is a function of its key and number alone.

    Returns:
        int32[N, n, T] and int32[N, n] positions.
    """
    length = ids.shape[1]

    def child(
        key: PRNGKey, parent: Int32[Array, " T"], proposals: Proposals, number: Int32[Array, ""]
    ) -> tuple[Int32[Array, " T"], Int32[Array, ""]]:
        position_key, token_key = jax.random.split(jax.random.fold_in(key, number))
        position = jax.random.randint(position_key, (), 0, length, jnp.int32)
        token = _draw(token_key, proposals.ids[position], proposals.usable[position])
        return parent.at[position].set(token), position

    return jax.vmap(jax.vmap(child, (None, None, None, 0)))(keys, ids, proposals, numbers)


def random_prompts(key: PRNGKey, allowed: Vocabulary, population: int, length: int) -> Prompts:
    """Prompts of uniformly drawn allowed tokens, one per slot."""
    ranks = jnp.cumsum(allowed)

    def prompt(slot: Int32[Array, ""]) -> Int32[Array, " T"]:
        draws = jax.random.randint(jax.random.fold_in(key, slot), (length,), 0, ranks[-1])
        return jnp.searchsorted(ranks, draws, side="right").astype(jnp.int32)

    return jax.vmap(prompt)(jnp.arange(population))


def _draw(key: PRNGKey, ids: Int32[Array, " K"], usable: Bool[Array, " K"]) -> Int32[Array, ""]:
    hashes: UInt32[Array, " K"] = jax.vmap(lambda token: jax.random.bits(jax.random.fold_in(key, token)))(ids)
    least = jnp.where(usable, hashes, jnp.uint32(0xFFFFFFFF)).min()
    # Ids whose hashes collide must not be told apart by their rank either.
    largest = jnp.iinfo(jnp.int32).max
    return jnp.where(usable & (hashes == least), ids, largest).min()
