"""Scorers put together from models, features and templates, with the checks of what goes together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Int32

from epo_jax.errors import EpoError
from epo_jax.features.base import READ, Feature
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import Decoder
from epo_jax.scoring.packing import Blocks
from epo_jax.scoring.parents import Prefix
from epo_jax.scoring.reading import LAST, parse_reading
from epo_jax.scoring.scorer import LanguageModelScorer, run_prefix
from epo_jax.scoring.template import FrozenTokens
from epo_jax.scoring.two_models import TwoModelScorer, no_feature


def check_allowed(lm: LanguageModel, allowed: Bool[np.ndarray, " V"]) -> None:
    """Check that a search has tokens to choose from.

    Raises:
        EpoError: fewer than two are allowed.
    """
    if allowed.sum() < 2:
        raise EpoError(f"{lm.source}: a search needs at least two allowed tokens, and there are {allowed.sum()}")


def stack_features(features: Sequence[Feature]) -> Feature:
    """Features of one kind as one, with a leading axis.

    Raises:
        EpoError: none, or features of several kinds or shapes.
    """
    if not features:
        raise EpoError("--feature: none given")
    first = features[0]
    for other in features[1:]:
        leaves, others = jax.tree.leaves(first), jax.tree.leaves(other)
        structures: list[object] = [jax.tree.structure(feature) for feature in (first, other)]
        if structures[0] != structures[1] or [leaf.shape for leaf in leaves] != [leaf.shape for leaf in others]:
            raise EpoError(
                f"--feature: {first.name} and {other.name} are of different kinds or sizes; only features of one kind "
                "and size are dreamed together"
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *features)


def placed_features(features: Sequence[Feature], tokens: int) -> Feature:
    """Features of one kind as one, with a leading axis, in sequences of so many tokens, the target excluded.

    Raises:
        EpoError: none, features of several kinds or shapes, or one that reads a position that there is not.
    """
    return stack_features([feature.within(tokens) for feature in features])


def check_length(lm: LanguageModel, length: int, frozen: FrozenTokens, features: Feature) -> None:
    """Check that prompts of this length can be scored.

    Args:
        lm: the model.
        length: optimized tokens.
        frozen: tokens around them.
        features: a stack [R, ...], whose target follows.

    Raises:
        EpoError: more tokens than the model takes, or no token that has a predecessor.
    """
    total = len(frozen.prefix) + length + len(frozen.suffix) + targets_of(features).shape[1]
    if total > lm.config.max_positions:
        raise EpoError(
            f"--length={length}: with prefix, suffix and the feature's target it makes {total} tokens, and the model "
            f"takes {lm.config.max_positions}"
        )
    if length == 1 and len(frozen.prefix) == 0:
        raise EpoError("--length=1: a single token has no predecessor to score it by; give a --prefix or --bos=always")


def check_shortest(least: int, length: int, frozen: FrozenTokens, features: Sequence[Feature], read: str | int) -> None:
    """Check that prompts as short as they may be can be scored, by the same features as the longest.

    Args:
        least: optimized tokens of the shortest prompts.
        length: of the longest, which `check_length` looks at.
        frozen: tokens around them.
        features: of one kind.
        read: where they are read.

    Raises:
        EpoError: they cannot.
    """
    if least == length:
        return
    flag, around = f"--least_length={least}", len(frozen.prefix) + len(frozen.suffix)
    if least == 1 and len(frozen.prefix) == 0:
        raise EpoError(f"{flag}: a single token has no predecessor to score it by; give 2, a --prefix or --bos=always")
    longest = placed_features(features, around + length)
    try:
        shortest = placed_features(features, around + least)
        parse_reading(read, len(frozen.prefix), least, len(frozen.suffix), targets_of(longest).shape[1])
    except EpoError as error:
        raise EpoError(f"{flag}: where a prompt has no more tokens, {error}") from error
    structures: list[object] = [jax.tree.structure(one) for one in (shortest, longest)]
    leaves = [jax.tree.leaves(one) for one in (shortest, longest)]
    if structures[0] != structures[1] or not all(map(np.array_equal, *leaves)):
        raise EpoError(
            f"{flag}: {', '.join(one.name for one in features)} is another feature in sequences of another length; "
            "positions that count from the beginning are the same, or give --least_length=0"
        )


def targets_of(features: Feature) -> Int32[jax.Array, "R m"]:
    """The target of each feature of a stack [R, ...]."""
    return jax.vmap(lambda one: one.target)(features)


def scorer_for(
    lm: LanguageModel,
    features: Feature,
    frozen: FrozenTokens,
    read: str | int,
    length: int,
    blocks: Blocks = Blocks(rows=0, chunks=()),  # noqa: B008 (a frozen dataclass)
    fluency_model: LanguageModel | None = None,
) -> LanguageModelScorer | TwoModelScorer:
    """A scorer of prompts of a model, or of two.

    Args:
        lm: the model.
        features: a stack [R, ...], see `stack_features`.
        frozen: tokens around the optimized ones.
        read: "last", "max" or a position.
        length: optimized tokens.
        blocks: sizes of the work on candidates; not needed where only whole prompts are scored.
        fluency_model: a model whose cross-entropy counts instead.

    Raises:
        EpoError: a position that cannot be read.
    """
    if fluency_model is not None:
        return TwoModelScorer(
            dataclasses.replace(language_model_scorer(lm, features, frozen, read, length, blocks), fluency=False),
            # A target is no part of what is scored, and with causal attention it changes nothing of it.
            language_model_scorer(fluency_model, stack_features([no_feature()]), frozen, LAST, length, blocks),
        )
    return language_model_scorer(lm, features, frozen, read, length, blocks)


def language_model_scorer(
    lm: LanguageModel,
    features: Feature,
    frozen: FrozenTokens,
    read: str | int,
    length: int,
    blocks: Blocks = Blocks(rows=0, chunks=()),  # noqa: B008 (a frozen dataclass)
) -> LanguageModelScorer:
    """A scorer of prompts of one model, see `scorer_for`."""
    if READ not in features.reads and read != LAST:
        raise EpoError(f"--read={read}: {features.name} is not read at one token or another; leave it at {LAST}")
    prefix = jnp.asarray(frozen.prefix)
    target = targets_of(features)
    suffix = jnp.broadcast_to(jnp.asarray(frozen.suffix), (len(target), len(frozen.suffix)))
    return LanguageModelScorer(
        params=lm.params,
        features=features,
        reading=parse_reading(read, len(frozen.prefix), length, len(frozen.suffix), target.shape[1]),
        prefix=prefix,
        suffix=jnp.concatenate([suffix, target], axis=1),
        past=_past_of(lm, prefix, features) if len(prefix) else None,
        graphdef=lm.graphdef,
        blocks=blocks,
    )


def is_abstract(lm: LanguageModel) -> bool:
    """Whether a model's parameters are shapes without numbers, for searches that are planned and never run."""
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(lm.params))


def _past_of(lm: LanguageModel, prefix: Int32[jax.Array, " n"], features: Feature) -> Prefix:
    if is_abstract(lm):
        return jax.eval_shape(functools.partial(_past, lm.graphdef), lm.params, prefix, features)
    return _past(lm.graphdef, lm.params, prefix, features)


@functools.partial(jax.jit, static_argnums=0)
def _past(
    graphdef: nnx.GraphDef[Decoder], params: nnx.State, prefix: Int32[jax.Array, " n"], features: Feature
) -> Prefix:
    return run_prefix(nnx.merge(graphdef, params), prefix, features)
