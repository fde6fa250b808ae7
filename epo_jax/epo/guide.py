"""What guides a search beyond the paper's: settings, and what is remembered from iteration to iteration."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32

from epo_jax.config import EPOConfig
from epo_jax.epo.archive import places_for, remember
from epo_jax.epo.operators import OPERATORS
from epo_jax.errors import EpoError

STATIC = {"static": True}
SUCCESS, GRADIENT, FRONTIER = "success", "gradient", "frontier"

# What of counts of children stays from one iteration to the next: about 30 iterations are looked back on.
STAYS = 0.97
# Nats/token over which the height of a frontier is taken to rise, so that a grid from 0.1 to 10 reaches from its flat
# end to its steep one.
WIDTH = 20.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Guide:
    """Settings of a guided search.

    Attributes:
        shares: float32[O], of children for each operator, to begin with.
        adaptation: float32[], the power of an operator's success that its share follows; 0 for fixed shares.
        noise: float32[], nats/token by which changes of the objective scatter beside what is known of them.
        kept: int32[2], tokens of the greatest gradient that are drawn from in the first and in the last iteration.
        iterations: int32[], of the whole search.
        merging: float32[], the share of them at the end that goes on from the best of all beginnings.
        diversity: float32[], what a prompt loses that has all its tokens in common with other dreams of its feature,
            as a share of the frontier's height.
        momentum: float32[], the share of a gradient that is added to the next one's.
        repetition: float32[], the share of a prompt's tokens that may stand in it before.
        operators: their names, O of them.
        oversample: edits that are drawn for each child.
        positions: what positions are chosen by.
        distinct: whether slots hold different prompts.
        follows: whether penalties are in units of the frontier's slope.
        places: of the filter that knows scored prompts; 0 for none.
        beginnings: how often the search begins anew, the first time included.
        recalls: whether gradients are remembered.
        least_length: the fewest tokens that a prompt may have; 0 where all have as many as there is room for.
    """

    shares: Float32[Array, " O"]
    adaptation: Float32[Array, ""]
    noise: Float32[Array, ""]
    kept: Int32[Array, "2"]
    iterations: Int32[Array, ""]
    merging: Float32[Array, ""]
    diversity: Float32[Array, ""]
    momentum: Float32[Array, ""]
    repetition: Float32[Array, ""]
    operators: tuple[str, ...] = dataclasses.field(metadata=STATIC)
    oversample: int = dataclasses.field(metadata=STATIC)
    positions: str = dataclasses.field(metadata=STATIC)
    distinct: bool = dataclasses.field(metadata=STATIC)
    follows: bool = dataclasses.field(metadata=STATIC)
    places: int = dataclasses.field(metadata=STATIC)
    beginnings: int = dataclasses.field(metadata=STATIC)
    recalls: bool = dataclasses.field(metadata=STATIC)
    least_length: int = dataclasses.field(metadata=STATIC)

    @property
    def reads_gradient(self) -> bool:
        """Whether iterations begin with gradients; otherwise parents are only run forward."""
        return self.positions == GRADIENT or any(OPERATORS[name].reads_gradient for name in self.operators)

    def repeats_in(self, length: int | Int32[Array, "*n"]) -> Int32[Array, "*n"]:
        """How many of so many tokens may stand in a prompt before."""
        return jnp.floor(self.repetition * length).astype(jnp.int32)

    def kept_at(self, iteration: Int32[Array, "*R"]) -> Int32[Array, "*R"]:
        """Tokens of the greatest gradient that are drawn from, falling or rising by equal factors."""
        done = jnp.clip(iteration / jnp.maximum(self.iterations, 1), 0, 1)
        start, end = self.kept.astype(jnp.float32)
        return jnp.round(start * (end / start) ** done).astype(jnp.int32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scored:
    """Prompts with their scores.

    Attributes:
        ids: int32[n, T], with pads behind the last tokens of those that have fewer.
        feature: float32[n].
        cross_entropy: float32[n], in nats/token.
    """

    ids: Int32[Array, "*R n T"]
    feature: Float32[Array, "*R n"]
    cross_entropy: Float32[Array, "*R n"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memory:
    """What a guided search remembers.

    Attributes:
        tried: float32[P, O, T], children of each slot's member by operator and first edit, old ones fading.
        won: float32[P, O, T], those of them that a slot took.
        filled: bool[M], of prompts that were scored; see `archive`. None where they are not remembered.
        lowest: float32[2], feature and cross-entropy of the most fluent prompt since the last beginning.
        highest: float32[], the greatest feature since then.
        waiting: prompts of later beginnings, [n * P, T], in their order; None where there are none.
        elites: the best prompt for each slot over all beginnings that are over, [P, T].
        gradient: float32[P, T, V], of each slot, those of earlier iterations fading; None where it is not remembered.
    """

    tried: Float32[Array, "*R P O T"]
    won: Float32[Array, "*R P O T"]
    filled: Bool[Array, "*R M"] | None
    lowest: Float32[Array, "*R 2"]
    highest: Float32[Array, "*R"]
    waiting: Scored | None
    elites: Scored
    gradient: Float32[Array, "*R P T V"] | None

    def slope(self) -> Float32[Array, "*R"]:
        """How much the feature rises with each nat/token along the frontier."""
        return slope_of(self.lowest, self.highest)


def slope_of(lowest: Float32[Array, "*R 2"], highest: Float32[Array, "*R"]) -> Float32[Array, "*R"]:
    """The slope between the most fluent prompt and the greatest feature, see `range_of`; 1 unit where there is none."""
    rise = highest - lowest[..., 0]
    return jnp.where(rise > 0, rise, 1.0) / WIDTH


def check_operators(config: EPOConfig) -> None:
    """Check that there are the operators that settings name.

    Raises:
        EpoError: one that there is not.
    """
    options = config.options
    for name in () if options is None else options.shares():
        if name not in OPERATORS:
            raise EpoError(f"--operators={config.operators}: {name!r} is not one of {', '.join(OPERATORS)}")


def guide_of(config: EPOConfig) -> Guide | None:
    """What guides a search with these settings; None for the paper's.

    Raises:
        EpoError: an operator that there is not.
    """
    options = config.options
    if options is None:
        return None
    check_operators(config)
    shares = options.shares()
    scored = config.population * (1 + config.iterations * config.children)
    numbers = jnp.asarray(list(shares.values()), jnp.float32)
    return Guide(
        shares=numbers / numbers.sum(),
        adaptation=jnp.float32(options.adaptation),
        noise=jnp.float32(options.noise),
        kept=jnp.asarray([options.kept_first, options.kept_last], jnp.int32),
        iterations=jnp.int32(config.iterations),
        operators=tuple(shares),
        oversample=options.oversample,
        positions=options.positions,
        distinct=options.distinct,
        follows=options.penalties == FRONTIER,
        places=places_for(scored) if options.archive else 0,
        merging=jnp.float32(options.merging),
        diversity=jnp.float32(options.diversity),
        repetition=jnp.float32(options.repetition),
        momentum=jnp.float32(options.momentum),
        beginnings=options.beginnings,
        recalls=options.momentum > 0,
        # A range of one length is none.
        least_length=config.shortest if config.shortest < config.length else 0,
    )


def first_memory(guide: Guide, first: Scored, waiting: Scored, vocabulary: int) -> Memory:
    """What is remembered after the initial prompts.

    Args:
        guide: settings.
        first: [R, P, ...], those of the first beginning.
        waiting: [R, n * P, ...], those of later ones.
        vocabulary: V, tokens that gradients are remembered of.
    """
    dreams, population, length = first.ids.shape
    shape = (dreams, population, len(guide.operators), length)
    filled = None
    if guide.places:
        filled = jnp.zeros((dreams, guide.places), jnp.bool_)
        for part in (first.ids, waiting.ids):
            filled = jax.vmap(remember)(filled, part, jnp.ones(part.shape[:2], jnp.bool_))
    tried, won = jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32)
    lowest, highest = range_of(first.feature, first.cross_entropy)
    gradient = None
    if guide.recalls and guide.reads_gradient:
        gradient = jnp.zeros((dreams, population, length, vocabulary), jnp.float32)
    return Memory(tried, won, filled, lowest, highest, waiting if waiting.ids.size else None, first, gradient)


def range_of(
    feature: Float32[Array, "R n"], cross_entropy: Float32[Array, "R n"]
) -> tuple[Float32[Array, "R 2"], Float32[Array, " R"]]:
    """Feature and cross-entropy of the most fluent of prompts, and the greatest feature of any."""
    fine = jnp.isfinite(feature) & jnp.isfinite(cross_entropy)
    nats = jnp.where(fine, cross_entropy, jnp.inf)
    place = jnp.argmin(nats, axis=1, keepdims=True)
    lowest = jnp.concatenate([jnp.take_along_axis(values, place, axis=1) for values in (feature, nats)], axis=1)
    return lowest, jnp.where(fine, feature, -jnp.inf).max(axis=1)


def with_range(memory: Memory, feature: Float32[Array, "R n"], cross_entropy: Float32[Array, "R n"]) -> Memory:
    """The memory after more prompts, of which the most fluent one and the greatest feature may count."""
    lowest, highest = range_of(feature, cross_entropy)
    lowest = jnp.where(lowest[:, 1:] < memory.lowest[:, 1:], lowest, memory.lowest)
    return dataclasses.replace(memory, lowest=lowest, highest=jnp.maximum(memory.highest, highest))


def with_children(
    memory: Memory,
    operator: Int32[Array, "R C"],
    first_edit: Int32[Array, "R C"],
    scored: Bool[Array, "R C"],
    taken: Bool[Array, "R C"],
) -> Memory:
    """The memory after children of all slots, slot by slot, of which some were taken by a slot."""

    def count(
        before: Float32[Array, "P O T"], operator: Array, position: Array, counts: Bool[Array, " C"]
    ) -> Float32[Array, "P O T"]:
        slots = before.shape[0]
        slot = jnp.repeat(jnp.arange(slots), operator.shape[0] // slots)
        return (STAYS * before).at[slot, operator, position].add(counts.astype(jnp.float32))

    both = [
        jax.vmap(count)(before, operator, first_edit, counts)
        for before, counts in ((memory.tried, scored), (memory.won, taken))
    ]
    return dataclasses.replace(memory, tried=both[0], won=both[1])
