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
from jaxtyping import Bool, Float32, Int32, UInt32

from epo_jax.axes import PRNGKey, Prompts, Vocabulary
from epo_jax.epo.scorer import Candidates


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Proposals:
    """The set of tokens that may replace each token.

    Attributes:
        ids: int32[P, T, K], in no order that matters.
        usable: bool[P, T, K]; entries that are not are banned, or the token already there, and no part of the set.
    """

    ids: Int32[Array, "P T K"]
    usable: Bool[Array, "P T K"]


def top_tokens(gradients: Float32[Array, "P T V"], ids: Prompts, allowed: Vocabulary, top_k: int) -> Proposals:
    """The K allowed tokens, other than the one already there, with the greatest gradient at each position."""
    usable = allowed & (jnp.arange(allowed.shape[0]) != ids[..., None])
    # A gradient that is not a number ranks below all numbers, but above what may not be used.
    ranked = jnp.where(usable, jnp.nan_to_num(gradients, nan=jnp.finfo(jnp.float32).min), -jnp.inf)
    _, best = jax.lax.top_k(ranked, top_k)
    return Proposals(best, jnp.take_along_axis(usable, best, axis=-1))


def make_children(
    key: PRNGKey, ids: Prompts, proposals: Proposals, children: int
) -> tuple[Candidates, Int32[Array, " C"]]:
    """Each slot's children, and the one position at which each differs from its parent.

    Args:
        key: of this iteration.
        ids: int32[P, T], the parents.
        proposals: tokens that may replace each token.
        children: their number per slot.

    Returns:
        Candidates, slot by slot, and int32[C] positions.
    """
    population, length = ids.shape

    def child(slot: Int32[Array, ""], number: Int32[Array, ""]) -> tuple[Int32[Array, " T"], Int32[Array, ""]]:
        position_key, token_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, slot), number))
        position = jax.random.randint(position_key, (), 0, length, jnp.int32)
        token = _draw(token_key, proposals.ids[slot, position], proposals.usable[slot, position])
        return ids[slot].at[position].set(token), position

    slots = jnp.arange(population, dtype=jnp.int32)
    numbers = jnp.arange(children, dtype=jnp.int32)
    new, positions = jax.vmap(jax.vmap(child, (None, 0)), (0, None))(slots, numbers)
    return Candidates(new.reshape(-1, length), jnp.repeat(slots, children)), positions.reshape(-1)


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
