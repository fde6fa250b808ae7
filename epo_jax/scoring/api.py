"""Scores and token gradients of whole sequences, and searches ready to start: the functional API."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, Float32, Int32
from numpy.typing import ArrayLike

from epo_jax.axes import Prompts
from epo_jax.config import EPOConfig
from epo_jax.constraints import Constraints, allowed_mask, rules_of
from epo_jax.epo import Algorithm, Candidates, Scores
from epo_jax.epo.guide import guide_of
from epo_jax.epo.objective import penalty_grid
from epo_jax.errors import EpoError
from epo_jax.features.base import Feature
from epo_jax.models import LanguageModel
from epo_jax.models.language_model import checked_ids
from epo_jax.models.on_mesh import on_mesh
from epo_jax.models.token_bytes import token_bytes
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.parallel.mesh import DATA
from epo_jax.parallel.placing import placed
from epo_jax.scoring.assemble import (
    check_allowed,
    check_length,
    check_shortest,
    is_abstract,
    language_model_scorer,
    placed_features,
    scorer_for,
)
from epo_jax.scoring.forward import rows_of_logits
from epo_jax.scoring.packing import default_blocks
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import NONE, Scale, scales_of
from epo_jax.scoring.scorer import LanguageModelScorer
from epo_jax.scoring.template import NOTHING, Template, frozen_tokens
from epo_jax.scoring.two_models import TwoModelScorer, shared_tokens


def build(
    lm: LanguageModel,
    feature: Feature | Sequence[Feature],
    config: EPOConfig,
    template: Template | None = None,
    *,
    read: str | int = LAST,
    scale: str | float | Sequence[Scale] = NONE,
    constraints: Constraints | None = None,
    fluency_model: LanguageModel | None = None,
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
        scale: what objectives take features against: "none" for their own values, "random" for standard deviations over
            1,024 random prompts (section 3.5 of the paper), a number to divide by, or a scale for each feature.
        constraints: what prompts may be; by default everything but special and unused tokens.
        fluency_model: a model with the same tokens, whose cross-entropy counts (section 2 of the paper); by default the
            first one.
        micro_batch: rows of tokens that evaluation runs as one block; by default as many as there may be, up to a limit
            that suits the device.
        mesh: devices that share slots and children along its axis "data", and the weights along its axis "model", onto
            which a model that lies elsewhere is put; by default those that the model lies on.

    Returns:
        An algorithm with `init(key) -> state` and `step(state) -> (state, info)`.

    Raises:
        EpoError: settings that this model cannot serve, or features of several kinds.
    """
    mesh = mesh or lm.mesh
    lm = on_mesh(lm, mesh)
    fluency_model = None if fluency_model is None else on_mesh(fluency_model, mesh)
    frozen = frozen_tokens(lm, template or Template())
    listed = list(feature) if isinstance(feature, Sequence) else [feature]
    features = placed_features(listed, len(frozen.prefix) + config.length + len(frozen.suffix))
    check_length(lm, config.length, frozen, features)
    check_shortest(config.shortest, config.length, frozen, listed, read)
    if config.top_k > lm.config.vocab_size:
        raise EpoError(f"--top_k={config.top_k}: above the model's vocabulary of {lm.config.vocab_size} tokens")
    constraints = constraints or Constraints()
    allowed = allowed_mask(constraints, lm.tokenizer, lm.config.vocab_size)
    if config.options is not None and not config.options.fragments:
        allowed &= token_bytes(lm.tokenizer, lm.config.vocab_size).whole
    check_allowed(lm, allowed)
    if fluency_model is not None:
        check_length(fluency_model, config.length, frozen, features)
        allowed &= shared_tokens(lm, fluency_model)
        check_allowed(lm, allowed)
    if config.shortest < config.length and constraints.freeze:
        raise EpoError(
            f"--least_length={config.shortest}: prompts whose length varies have no positions that "
            "--freeze could keep; give --least_length=0, or freeze nothing"
        )
    rules = rules_of(constraints, lm.tokenizer, allowed, config.length, frozen.prefix.tolist(), frozen.suffix.tolist())
    scorer = scorer_for(lm, features, frozen, read, config.length, fluency_model=fluency_model)
    if isinstance(scale, (str, float, int)):
        scale = feature_scales(lm, listed, config.length, template, read=read, scale=scale)
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
        gradients_at_once=max(1, rows_of_logits(scorer.vocabulary) // config.length),
        mesh=mesh,
        scale=jnp.asarray([one.unit for one in scale], jnp.float32),
        guide=guide_of(config),
        openings=_openings(lm, config, allowed),
        group=_groups([one.name for one in listed], config),
        **vars(rules),
    )
    sharing = algorithm.sharing
    candidates = sharing.units * sharing.children_per_part
    platform = next(iter(jax.tree.leaves(lm.params)[0].sharding.device_set)).platform
    blocks = default_blocks(candidates, config.length, scorer.after, platform, micro_batch)
    algorithm = dataclasses.replace(algorithm, scorer=scorer.with_blocks(blocks))
    return algorithm if mesh is None else _placed(algorithm, mesh, (lm, fluency_model))


def _openings(lm: LanguageModel, config: EPOConfig, allowed: Bool[np.ndarray, " V"]) -> Bool[jax.Array, " V"] | None:
    """Words, of which the model writes on as it does of nothing that is half a word."""
    if config.options is None or not config.options.beam:
        return None
    words = allowed & token_bytes(lm.tokenizer, lm.config.vocab_size).opens_word
    return jnp.asarray(words) if words.any() else None


def _groups(names: Sequence[str], config: EPOConfig) -> Int32[jax.Array, " R"] | None:
    """Numbers for dreams, equal for those of one feature, where these are to differ from each other."""
    options = config.options
    if options is None or not options.diversity or len(set(names)) == len(names):
        return None
    return jnp.asarray([names.index(name) for name in names], jnp.int32)


def _placed(algorithm: Algorithm, mesh: Mesh, models: Sequence[LanguageModel | None]) -> Algorithm:
    """An algorithm on the devices of a mesh: parameters as they lie there already, all else whole on each device."""
    loaded = [lm for lm in models if lm is not None]
    if not any(map(is_abstract, loaded)):
        parameters = {id(leaf) for lm in loaded for leaf in jax.tree.leaves(lm.params)}
        leaves, structure = jax.tree.flatten(algorithm)
        whole = NamedSharding(mesh, PartitionSpec())
        leaves = [leaf if id(leaf) in parameters else placed(leaf, whole) for leaf in leaves]
        algorithm = jax.tree.unflatten(structure, leaves)
    specs = tuple(_over_data(leaf) for leaf in jax.tree.leaves(algorithm.scorer))
    return dataclasses.replace(algorithm, lies=specs if any(specs) else None)


def _over_data(leaf: jax.Array | jax.ShapeDtypeStruct) -> PartitionSpec:
    """How an array lies over the axis of the data alone."""
    spec = leaf.sharding.spec if isinstance(leaf.sharding, NamedSharding) else ()
    axes = [axis if axis == DATA else None for axis in spec]
    return PartitionSpec(*axes) if DATA in axes else PartitionSpec()


def feature_scales(
    lm: LanguageModel,
    features: Sequence[Feature],
    length: int,
    template: Template | None = None,
    *,
    read: str | int = LAST,
    scale: str | float = NONE,
) -> list[Scale]:
    """What each feature's values are taken against.

    Args:
        lm: the model.
        features: of one kind.
        length: optimized tokens.
        template: frozen text around them, as for `build`.
        read: as for `build`.
        scale: "none", "random" or a number, as for `build`.

    Raises:
        EpoError: a scale that there is not, or a feature that does not vary over random prompts.
    """
    scorer, allowed = sampling_scorer(lm, features, length, template, read)
    return scales_of(scorer, scale, [one.name for one in features], allowed, length)


def sampling_scorer(
    lm: LanguageModel, features: Sequence[Feature], length: int, template: Template | None, read: str | int
) -> tuple[LanguageModelScorer, Bool[np.ndarray, " V"]]:
    """A scorer of features for random prompts of so many tokens, and the tokens that these are made of."""
    frozen = frozen_tokens(lm, template or Template())
    placed = placed_features(features, len(frozen.prefix) + length + len(frozen.suffix))
    check_length(lm, length, frozen, placed)
    scorer = language_model_scorer(lm, placed, frozen, read, length)
    return scorer, allowed_tokens(lm.tokenizer, lm.config.vocab_size)


def score(
    lm: LanguageModel,
    feature: Feature,
    ids: ArrayLike,
    template: Template | None = None,
    *,
    read: str | int = LAST,
    fluency_model: LanguageModel | None = None,
) -> Scores:
    """Feature and cross-entropy of whole sequences as they are; no BOS is added.

    Args:
        lm: the model.
        feature: what to read.
        ids: int[B, S].
        template: without one the cross-entropy covers every token that has a predecessor; with one, whose tokens the
            sequences must hold at their ends, only the tokens between.
        read: "last", "max" (over the tokens between) or a position in the whole sequence.
        fluency_model: the model whose cross-entropy is given; by default the first one.

    Returns:
        `.feature` float32[B] and `.cross_entropy` float32[B] in nats/token.

    Raises:
        EpoError: ids that the model cannot take, or too few of them.
    """
    scorer, prompts = split(lm, feature, ids, template, read, fluency_model)
    return _score(scorer, prompts)


def token_gradients(
    lm: LanguageModel,
    feature: Feature,
    ids: ArrayLike,
    penalty: ArrayLike,
    template: Template | None = None,
    *,
    read: str | int = LAST,
    fluency_model: LanguageModel | None = None,
) -> Float32[jax.Array, "B T V"]:
    """Gradient of `feature - penalty * cross_entropy` with respect to one-hot tokens.

    Args:
        lm: the model.
        feature: what to read.
        ids: int[B, S], whole sequences as they are; no BOS is added.
        penalty: a number, or one for each sequence, [B].
        template: as for `score`; with one, only the tokens between are differentiated.
        read: as for `score`.
        fluency_model: as for `score`.

    Returns:
        float32[B, T, V], through the embedding and through the label that scores each token.

    Raises:
        EpoError: ids that the model cannot take, too few of them, or penalties of another shape.
    """
    scorer, prompts = split(lm, feature, ids, template, read, fluency_model)
    penalties = np.asarray(penalty, np.float32)
    if penalties.shape not in ((), (prompts.shape[0],)):
        raise EpoError(f"penalty: has shape {penalties.shape}, where a number or [{prompts.shape[0]}] is read")
    found = _gradients(scorer, prompts, jnp.broadcast_to(jnp.asarray(penalties), prompts.shape[0]))
    return found[..., : lm.config.vocab_size]


def split(
    lm: LanguageModel,
    feature: Feature,
    ids: ArrayLike,
    template: Template | None,
    read: str | int,
    fluency_model: LanguageModel | None = None,
) -> tuple[LanguageModelScorer | TwoModelScorer, Prompts]:
    """A scorer for whole sequences, and the tokens of theirs that stand between the template's; see `score`."""
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
    if fluency_model is not None:
        shared_tokens(lm, fluency_model)
        checked_ids(fluency_model, ids)
    return scorer_for(lm, features, frozen, read, stop - start, fluency_model=fluency_model), sequences[:, start:stop]


@jax.jit
def _score(scorer: LanguageModelScorer | TwoModelScorer, ids: Int32[jax.Array, "B T"]) -> Scores:
    count, length = ids.shape
    nobody = jnp.zeros(count, jnp.int32)
    return scorer.evaluate(None, Candidates(ids, nobody, nobody), nobody, jnp.full_like(nobody, length))


@jax.jit
def _gradients(
    scorer: LanguageModelScorer | TwoModelScorer, ids: Int32[jax.Array, "B T"], penalties: Float32[jax.Array, " B"]
) -> Float32[jax.Array, "B T V"]:
    return scorer.gradients(ids, penalties, jnp.zeros(len(ids), jnp.int32))[0]
