"""Scores and token gradients of whole sequences, and searches ready to start: the functional API."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32, Int32
from numpy.typing import ArrayLike

from epo_jax.axes import Prompts
from epo_jax.config import EPOConfig
from epo_jax.epo import Algorithm, Candidates, Scores
from epo_jax.epo.objective import penalty_grid
from epo_jax.errors import EpoError
from epo_jax.features.base import Feature
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import Decoder
from epo_jax.models.language_model import checked_ids
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.scoring.forward import rows_of_logits
from epo_jax.scoring.packing import Blocks, default_blocks
from epo_jax.scoring.parents import Prefix
from epo_jax.scoring.reading import LAST, parse_reading
from epo_jax.scoring.scorer import LanguageModelScorer, run_prefix
from epo_jax.scoring.template import NOTHING, FrozenTokens, Template, frozen_tokens


def build(
    lm: LanguageModel,
    feature: Feature | Sequence[Feature],
    config: EPOConfig,
    template: Template | None = None,
    *,
    read: str | int = LAST,
    micro_batch: int | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """A search over prompts for a feature of a model, as a pytree whose shapes alone are static.

    Args:
        lm: the model.
        feature: what to maximize; a list of features of one kind makes as many dreams, advanced together, whose states
            and infos have a leading axis.
        config: settings of the search.
        template: frozen text around the optimized tokens; by default nothing but the BOS that the tokenizer adds.
        read: "last", "max" (over the optimized tokens) or a position in the whole sequence.
        micro_batch: rows of tokens that evaluation runs as one block; by default as many as there may be, up to a limit
            that suits the device.
        mesh: devices that share slots and children along its axis "data"; by default the model's device alone.

    Returns:
        An algorithm with `init(key) -> state` and `step(state) -> (state, info)`.

    Raises:
        EpoError: settings that this model cannot serve, or features of several kinds.
    """
    frozen = frozen_tokens(lm, template or Template())
    listed = list(feature) if isinstance(feature, Sequence) else [feature]
    features = placed_features(listed, len(frozen.prefix) + config.length + len(frozen.suffix))
    check_length(lm, config.length, frozen, features)
    if config.top_k > lm.config.vocab_size:
        raise EpoError(f"--top_k={config.top_k}: above the model's vocabulary of {lm.config.vocab_size} tokens")
    allowed = allowed_tokens(lm.tokenizer, lm.config.vocab_size)
    if allowed.sum() < 2:
        raise EpoError(
            f"{lm.source}: a search needs at least two allowed tokens, and the tokenizer leaves {allowed.sum()}"
        )
    scorer = scorer_for(lm, features, frozen, read, config.length)
    algorithm = Algorithm(
        scorer=scorer,
        penalties=penalty_grid(config.lambda_min, config.lambda_max, config.population),
        allowed=jnp.asarray(allowed),
        restart_every=jnp.int32(config.restart_every),
        restart_bounds=jnp.asarray([config.restart_lambda_min, config.restart_lambda_max], jnp.float32),
        population=config.population,
        children=config.children,
        length=config.length,
        top_k=min(config.top_k, int(allowed.sum())),
        dreams=len(listed) if isinstance(feature, Sequence) else None,
        gradients_at_once=max(1, rows_of_logits(lm.config.vocab_size) // config.length),
        mesh=mesh,
    )
    sharing = algorithm.sharing
    candidates = sharing.units * sharing.children_per_part
    platform = next(iter(jax.tree.leaves(lm.params)[0].devices())).platform
    blocks = default_blocks(candidates, config.length, scorer.after, platform, micro_batch)
    algorithm = dataclasses.replace(algorithm, scorer=dataclasses.replace(scorer, blocks=blocks))
    return algorithm if mesh is None else jax.device_put(algorithm, NamedSharding(mesh, PartitionSpec()))


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
                f"--feature: {first.name} and {other.name} are of different kinds; only features of one kind are "
                "dreamed together"
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


def score(
    lm: LanguageModel, feature: Feature, ids: ArrayLike, template: Template | None = None, *, read: str | int = LAST
) -> Scores:
    """Feature and cross-entropy of whole sequences as they are; no BOS is added.

    Args:
        lm: the model.
        feature: what to read.
        ids: int[B, S].
        template: without one the cross-entropy covers every token that has a predecessor; with one, whose tokens the
            sequences must hold at their ends, only the tokens between.
        read: "last", "max" (over the tokens between) or a position in the whole sequence.

    Returns:
        `.feature` float32[B] and `.cross_entropy` float32[B] in nats/token.

    Raises:
        EpoError: ids that the model cannot take, or too few of them.
    """
    scorer, prompts = _split(lm, feature, ids, template, read)
    return _score(scorer, prompts)


def token_gradients(
    lm: LanguageModel,
    feature: Feature,
    ids: ArrayLike,
    penalty: ArrayLike,
    template: Template | None = None,
    *,
    read: str | int = LAST,
) -> Float32[jax.Array, "B T V"]:
    """Gradient of `feature - penalty * cross_entropy` with respect to one-hot tokens.

    Args:
        lm: the model.
        feature: what to read.
        ids: int[B, S], whole sequences as they are; no BOS is added.
        penalty: a number, or one for each sequence, [B].
        template: as for `score`; with one, only the tokens between are differentiated.
        read: as for `score`.

    Returns:
        float32[B, T, V], through the embedding and through the label that scores each token.

    Raises:
        EpoError: ids that the model cannot take, too few of them, or penalties of another shape.
    """
    scorer, prompts = _split(lm, feature, ids, template, read)
    penalties = np.asarray(penalty, np.float32)
    if penalties.shape not in ((), (prompts.shape[0],)):
        raise EpoError(f"penalty: has shape {penalties.shape}, where a number or [{prompts.shape[0]}] is read")
    return _gradients(scorer, prompts, jnp.broadcast_to(jnp.asarray(penalties), prompts.shape[0]))


def _split(
    lm: LanguageModel, feature: Feature, ids: ArrayLike, template: Template | None, read: str | int
) -> tuple[LanguageModelScorer, Prompts]:
    sequences = checked_ids(lm, ids)
    frozen = NOTHING if template is None else frozen_tokens(lm, template)
    start, stop = len(frozen.prefix), sequences.shape[1] - len(frozen.suffix)
    for name, expected, found in (
        ("prefix", frozen.prefix, sequences[:, :start]),
        ("suffix", frozen.suffix, sequences[:, stop:]),
    ):
        if found.shape[1] != len(expected) or not np.array_equal(
            np.asarray(found), np.broadcast_to(expected, found.shape)
        ):
            raise EpoError(f"ids: must hold the tokens of the template's {name}, {expected.tolist()}")
    if stop - start < 1 or (stop - start == 1 and start == 0):
        raise EpoError(f"ids: {sequences.shape[1]} tokens leave none to score; a scored token has a predecessor")
    features = placed_features([feature], sequences.shape[1])
    check_length(lm, stop - start, frozen, features)
    return scorer_for(lm, features, frozen, read, stop - start), sequences[:, start:stop]


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
) -> LanguageModelScorer:
    """A scorer of prompts of a model.

    Args:
        lm: the model.
        features: a stack [R, ...], see `stack_features`.
        frozen: tokens around the optimized ones.
        read: "last", "max" or a position.
        length: optimized tokens.
        blocks: sizes of the work on candidates; not needed where only whole prompts are scored.

    Raises:
        EpoError: a position that cannot be read.
    """
    prefix = jnp.asarray(frozen.prefix)
    target = targets_of(features)
    suffix = jnp.broadcast_to(jnp.asarray(frozen.suffix), (len(target), len(frozen.suffix)))
    return LanguageModelScorer(
        params=lm.params,
        features=features,
        reading=parse_reading(read, len(frozen.prefix), length, len(frozen.suffix), target.shape[1]),
        prefix=prefix,
        suffix=jnp.concatenate([suffix, target], axis=1),
        past=_past(lm.graphdef, lm.params, prefix, features) if len(prefix) else None,
        graphdef=lm.graphdef,
        blocks=blocks,
    )


@functools.partial(jax.jit, static_argnums=0)
def _past(
    graphdef: nnx.GraphDef[Decoder], params: nnx.State, prefix: Int32[jax.Array, " n"], features: Feature
) -> Prefix:
    return run_prefix(nnx.merge(graphdef, params), prefix, features)


@jax.jit
def _score(scorer: LanguageModelScorer, ids: Int32[jax.Array, "B T"]) -> Scores:
    count, length = ids.shape
    nobody = jnp.zeros(count, jnp.int32)
    return scorer.evaluate(None, Candidates(ids, nobody, nobody), nobody, jnp.full_like(nobody, length))


@jax.jit
def _gradients(
    scorer: LanguageModelScorer, ids: Int32[jax.Array, "B T"], penalties: Float32[jax.Array, " B"]
) -> Float32[jax.Array, "B T V"]:
    return scorer.gradients(ids, penalties, jnp.zeros(len(ids), jnp.int32))[0]
