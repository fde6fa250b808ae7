"""What a mutation operator is given of a prompt, and what it makes of it."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32

from epo_jax.axes import PRNGKey
from epo_jax.epo.lengths import PAD, lengths_of

# Draws of lengths, beside those of an operator itself, so that these are the same where no length varies.
LENGTHS = 1000


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Parent:
    """A prompt with what is known of it for free.

    Attributes:
        ids: int32[T], with pads behind the last token if it has fewer, see `epo_jax.epo.lengths`.
        log_probs: float32[T, V], of every token given those before it, in nats; 0 where a token has no predecessor.
            Behind a prompt's end only the first place means something.
        gradient: float32[T, V], of the slot's objective by one-hot tokens; None where no operator reads it.
        allowed: bool[V], tokens that prompts may hold.
        positions: float32[T], how likely an edit starts at each position; their sum is 1.
        mates: int32[P, T], the whole population.
        nat: float32[], what a nat of one token's surprisal costs, in the unit that gains are told in.
        kept: tokens of the greatest gradient that are drawn from.
        least_length: the fewest tokens that a prompt may have; 0 where all have T.
        first_scored: the first token that has a predecessor.
    """

    ids: Int32[Array, " T"]
    log_probs: Float32[Array, "T V"]
    gradient: Float32[Array, "T V"] | None
    allowed: Bool[Array, " V"]
    positions: Float32[Array, " T"]
    mates: Int32[Array, "P T"]
    nat: Float32[Array, ""]
    kept: Int32[Array, ""]
    least_length: int = dataclasses.field(default=0, metadata={"static": True})
    first_scored: int = dataclasses.field(default=0, metadata={"static": True})

    @property
    def length(self) -> int | Int32[Array, ""]:
        """How many tokens it has."""
        return lengths_of(self.ids) if self.least_length else self.ids.shape[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Edits:
    """Prompts that an operator made of one, of which the best will be chosen.

    Attributes:
        ids: int32[m, T]; one that equals its parent, or holds what it may not, is never chosen. Leading axes appear
            where the edits of several operators and parents are stacked.
        gain: float32[m], what is known of the change of the objective before anything is run: that of the new tokens'
            own surprisals, which the parent's rows give exactly; 0 where nothing is known.
    """

    ids: Int32[Array, "*u m T"]
    gain: Float32[Array, "*u m"]

    def first_edits(self, parent: Int32[Array, " T"]) -> Int32[Array, " m"]:
        """The first position at which each differs from its parent; 0 where none does."""
        return (self.ids != parent).argmax(axis=-1).astype(jnp.int32)


class Operator(Protocol):
    """A way of making new prompts; one file each, named in `epo_jax.epo.operators.OPERATORS`."""

    @property
    def reads_gradient(self) -> bool:
        """Whether it needs the gradient, which costs as much as two forward passes."""
        ...

    def propose(self, parent: Parent, key: PRNGKey, count: int) -> Edits:
        """So many edits of a prompt, drawn one by one; a function of the key and the parent alone."""
        ...


def draw_positions(parent: Parent, key: PRNGKey, count: int) -> Int32[Array, " m"]:
    """Positions, as likely as the parent has them."""
    return jax.random.categorical(key, jnp.log(parent.positions), shape=(count,)).astype(jnp.int32)


def draw_tokens(
    parent: Parent, weights: Float32[Array, "T V"], positions: Int32[Array, " m"], key: PRNGKey
) -> Int32[Array, " m"]:
    """A token for each position, as likely as the weights there have it among allowed tokens."""
    sums = jnp.cumsum(jnp.where(parent.allowed, weights, 0.0), axis=-1)
    draws = jax.random.uniform(key, positions.shape)

    def draw(position: Int32[Array, ""], draw: Float32[Array, ""]) -> Int32[Array, ""]:
        own = sums[position]
        return jnp.searchsorted(own, draw * own[-1], side="right")

    last = weights.shape[-1] - 1
    return jnp.minimum(jax.vmap(draw)(positions, draws), last).astype(jnp.int32)


def halves(key: PRNGKey, kinds: int, count: int) -> Bool[Array, "kinds m"]:
    """For so many edits, whether each belongs to one half of them or to the other; anew for each of some kinds."""
    return jax.random.bernoulli(jax.random.fold_in(key, LENGTHS), shape=(kinds, count))


def put(parent: Parent, positions: Int32[Array, " m"], tokens: Int32[Array, " m"]) -> Int32[Array, "m T"]:
    """The parent with one token replaced each time."""
    here = jnp.arange(parent.ids.shape[0]) == positions[:, None]
    return jnp.where(here, tokens[:, None], parent.ids)


def swap_gain(parent: Parent, positions: Int32[Array, " m"], tokens: Int32[Array, " m"]) -> Float32[Array, " m"]:
    """What the surprisals of the tokens that are put there change, if the tokens before stay."""
    before = parent.log_probs[positions, parent.ids[positions]]
    return parent.nat * (parent.log_probs[positions, tokens] - before)


def swaps(parent: Parent, positions: Int32[Array, " m"], tokens: Int32[Array, " m"]) -> Edits:
    """Edits that replace one token each."""
    return Edits(put(parent, positions, tokens), swap_gain(parent, positions, tokens))


def joined_gain(parent: Parent, positions: Int32[Array, " m"], tokens: Int32[Array, " m"]) -> Float32[Array, " m"]:
    """What one token more changes of the mean surprisal, if all others' surprisals stay."""
    count, mean = _scored(parent)
    gain = parent.nat * count / (count + 1) * (parent.log_probs[positions, tokens] - mean)
    # One that has no predecessor gives one to the token behind it, of which nothing is known.
    return jnp.where(positions < parent.first_scored, 0.0, gain)


def left_gain(parent: Parent, positions: Int32[Array, " m"]) -> Float32[Array, " m"]:
    """What one token less changes of the mean surprisal, if all others' surprisals stay."""
    count, mean = _scored(parent)
    # Without a first token that has no predecessor the next one has none.
    positions = jnp.maximum(positions, parent.first_scored)
    own = parent.log_probs[positions, parent.ids[positions]]
    return parent.nat * count / jnp.maximum(count - 1, 1) * (mean - own)


def _scored(parent: Parent) -> tuple[Int32[Array, ""], Float32[Array, ""]]:
    """How many tokens have a predecessor, and their mean log-probability."""
    own = jnp.take_along_axis(parent.log_probs, jnp.maximum(parent.ids, 0)[:, None], axis=1)[:, 0]
    there = (jnp.arange(parent.ids.shape[0]) >= parent.first_scored) & (parent.ids != PAD)
    return there.sum(), own.mean(where=there)
