"""From gradients to children: one uniformly drawn position, one uniformly drawn token of its K best usable ones.

All draws are functions of (key, iteration, slot, child, alternative) alone. A token is drawn from the set of the K best
as the id with the least hash, never by its rank: gradients of batches and of single prompts differ in their last bits,
which reorders ranks but hardly ever changes the set.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec
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

    @property
    def any_usable(self) -> Bool[Array, "*N"]:
        """Which prompts have a token that may be replaced."""
        return self.usable.any(axis=(-2, -1))


def top_tokens(
    gradients: Float32[Array, "N T more"],
    ids: Int32[Array, "N T"],
    allowed: Bool[Array, "*N V"],
    top_k: int,
    parts: int = 1,
    axis: str | None = None,
) -> Proposals:
    """The K allowed tokens, other than the one already there, with the greatest gradient at each position.

    Args:
        gradients: float32[N, T, V], or more; what stands behind V is no token.
        ids: int32[N, T], the tokens already there.
        allowed: bool[V], or [N, T, V] where it depends on prompt and position.
        top_k: K.
        parts: equal parts of the vocabulary that devices look through apart before the best of each are compared; the
            tokens are the same.
        axis: the mesh's axis that the parts lie over; None where there is none.
    """
    size = gradients.shape[-1]
    allowed = jnp.pad(allowed, [*[(0, 0)] * (allowed.ndim - 1), (0, size - allowed.shape[-1])])
    usable = allowed & (jnp.arange(size) != ids[..., None])
    # A gradient that is not a number ranks below all numbers, but above what may not be used.
    ranked = jnp.where(usable, jnp.nan_to_num(gradients, nan=jnp.finfo(jnp.float32).min), -jnp.inf)
    if axis is None or parts == 1 or size % parts:
        values, best = jax.lax.top_k(ranked, top_k)
        return Proposals(best, values > -jnp.inf)
    values, tokens = _best_of_parts(ranked, min(top_k, size // parts), parts, axis)
    # Of equal gradients the first tokens win in a part, and the first part wins among them, as in the whole.
    values, which = jax.lax.top_k(values, top_k)
    return Proposals(jnp.take_along_axis(tokens, which, axis=-1), values > -jnp.inf)


def _best_of_parts(
    ranked: Float32[Array, "N T V"], top_k: int, parts: int, axis: str
) -> tuple[Float32[Array, "N T best"], Int32[Array, "N T best"]]:
    """The greatest numbers of each part of the vocabulary, part after part, and their tokens.

    Parts lie on devices, and only what is found travels: the compiler by itself would bring all numbers together.
    """

    def local(
        part: Float32[Array, "N T part"], number: Int32[Array, "1"]
    ) -> tuple[Float32[Array, "N T best"], Int32[Array, "N T best"]]:
        values, best = jax.lax.top_k(part, top_k)
        found = values, best + number * part.shape[-1]
        return jax.lax.all_gather(found, axis, axis=2, tiled=True)

    over = PartitionSpec(None, None, axis), PartitionSpec(axis)
    everywhere = jax.shard_map(local, in_specs=over, out_specs=PartitionSpec(), axis_names={axis}, check_vma=False)
    return everywhere(ranked, jnp.arange(parts, dtype=jnp.int32))


def draw_edits(
    keys: Key[Array, " N"],
    proposals: Proposals,
    numbers: Int32[Array, "N n"],
    alternatives: Int32[Array, "N n"] | None = None,
) -> tuple[Int32[Array, "N n"], Int32[Array, "N n"]]:
    """The one position at which each child differs from its parent, and the token there.

    A position is drawn uniformly from those that have a usable token, and a token uniformly from the usable ones there.

    Args:
        keys: of this iteration and each prompt's slot.
        proposals: tokens that may replace each token.
        numbers: int32[N, n], the numbers of the children wanted; an edit is a function of key, number and alternative.
        alternatives: int32[N, n], which of a child's possible edits is wanted; by default its first, number 0.

    Returns:
        int32[N, n] positions and int32[N, n] tokens, which mean nothing for a prompt without a usable token.
    """

    def edit(
        key: PRNGKey, proposals: Proposals, number: Int32[Array, ""], alternative: Int32[Array, ""] | None
    ) -> tuple[Int32[Array, ""], Int32[Array, ""]]:
        key = jax.random.fold_in(key, number)
        if alternative is not None:
            # The first two numbers are those of the keys that a key is split into.
            key = jnp.where(alternative == 0, key, jax.random.fold_in(key, alternative + 1))
        position_key, token_key = jax.random.split(key)
        ranks = jnp.cumsum(proposals.usable.any(axis=-1))
        rank = jax.random.randint(position_key, (), 0, jnp.maximum(ranks[-1], 1), jnp.int32)
        position = jnp.minimum(jnp.searchsorted(ranks, rank, side="right"), len(ranks) - 1).astype(jnp.int32)
        return position, _draw(token_key, proposals.ids[position], proposals.usable[position])

    axis = None if alternatives is None else 0
    children = jax.vmap(edit, (None, None, 0, axis))
    return jax.vmap(children, (0, 0, 0, axis))(keys, proposals, numbers, alternatives)


def make_children(
    keys: Key[Array, " N"],
    ids: Int32[Array, "N T"],
    proposals: Proposals,
    numbers: Int32[Array, "N n"],
    alternatives: Int32[Array, "N n"] | None = None,
) -> tuple[Int32[Array, "N n T"], Int32[Array, "N n"]]:
    """Children of prompts, and the one position at which each differs from its parent.

    Args:
        keys: as for `draw_edits`, and so are `proposals`, `numbers` and `alternatives`.
        ids: int32[N, T], the parents.
        proposals: see there.
        numbers: see there.
        alternatives: see there.

    Returns:
        int32[N, n, T] and int32[N, n] positions; a prompt without a usable token is its own child.
    """
    positions, tokens = draw_edits(keys, proposals, numbers, alternatives)
    here = (jnp.arange(ids.shape[1]) == positions[..., None]) & proposals.any_usable[:, None, None]
    return jnp.where(here, tokens[..., None], ids[:, None]), positions


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
