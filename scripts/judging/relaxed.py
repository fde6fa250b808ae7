"""What searches share that move prompts off the embeddings of tokens: the model between tokens, and the trace."""

from __future__ import annotations

import dataclasses
import time
import typing
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Int32

import epo_jax
from epo_jax.axes import PRNGKey, Slots
from epo_jax.epo import Scores
from epo_jax.errors import EpoError
from epo_jax.scoring.forward import predictors_of, run
from epo_jax.scoring.scorer import LanguageModelScorer, following
from judging.task import Task
from judging.trace import Trace


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Relaxation:
    """The paper's objective, one prompt for each penalty, as a function of embeddings.

    Attributes:
        scorer: of one feature.
        penalties: float32[P], the fluency penalty of each prompt.
        allowed: bool[V], tokens that scored prompts may hold; V counts all rows of the embedding.
        length: optimized tokens (T); static.
    """

    scorer: LanguageModelScorer
    penalties: Slots
    allowed: Bool[Array, " V"]
    length: int = dataclasses.field(metadata={"static": True})

    @property
    def population(self) -> int:
        """Prompts that are optimized side by side (P)."""
        return len(self.penalties)

    @property
    def rows(self) -> int:
        """Rows of scoring one prompt for each penalty."""
        return self.population * self.length

    @property
    def table(self) -> Float32[Array, "V D"]:
        """Embeddings of all tokens as they enter the first block, positions left out."""
        decoder = self.scorer.decoder
        return decoder.embedding.embedding[...].astype(jnp.float32) * decoder.config.embedding_scale

    def between(
        self, ids: Int32[Array, "P T"], shift: Float32[Array, "P T D"]
    ) -> tuple[Float32[Array, " P"], Float32[Array, "P scored V"]]:
        """The model on prompts whose embeddings are moved.

        Args:
            ids: int32[P, T], tokens, whose embeddings and positions are taken.
            shift: float32[P, T, D], what is added to the embeddings.

        Returns:
            The feature of each prompt, and the logits that predict its scored tokens.
        """
        scorer, decoder = self.scorer, self.scorer.decoder
        dream = jnp.zeros(len(ids), jnp.int32)
        lengths = jnp.full_like(dream, self.length)
        sequences = scorer.after_prefix(ids, dream)
        embeddings = decoder.embed(sequences, len(scorer.prefix) + jnp.arange(sequences.shape[1]))
        inputs = embeddings.at[:, : self.length].add(shift.astype(embeddings.dtype))
        past, before = (None, None) if scorer.past is None else (scorer.past.keys_values, scorer.past.hidden)
        shown = scorer.shown(lengths, self.length)
        values, hidden, _ = run(decoder, scorer.features, dream, inputs, following(sequences), shown, past)
        predictors = predictors_of(hidden[:, : self.length], before)
        return scorer.totals(values, dream, lengths), decoder.unembed(predictors[:, scorer.first_scored :])


def relaxation_of(task: Task) -> Relaxation:
    """The objective of a task, with the scorer and the penalties of the paper's search.

    Raises:
        EpoError: a feature or settings that the model cannot serve.
    """
    lm = task.lm
    algorithm = epo_jax.build(lm, epo_jax.parse_feature(task.feature, lm), task.config)
    allowed = jnp.pad(algorithm.allowed, (0, lm.config.room_for_tokens - len(algorithm.allowed)))
    # Without a second model for fluency it is a scorer of one.
    scorer = typing.cast(LanguageModelScorer, algorithm.scorer)
    return Relaxation(scorer, algorithm.penalties, allowed, task.config.length)


def key_of(task: Task) -> PRNGKey:
    """What all randomness of a search is a function of."""
    return jax.random.key(task.seed, impl="threefry2x32")


@dataclasses.dataclass(frozen=True)
class Scored:
    """Prompts that were scored together, one for each penalty.

    Attributes:
        ids: int32[P, T].
        feature: float32[P].
        cross_entropy: float32[P], in nats/token.
        rows: rows used when the scores were known.
        moment: the clock's time then, in seconds.
    """

    ids: Int32[np.ndarray, "P T"]
    feature: Float32[np.ndarray, " P"]
    cross_entropy: Float32[np.ndarray, " P"]
    rows: int
    moment: float


def scored(ids: Int32[Array, "P T"], scores: Scores, rows: int) -> Scored:
    """Prompts with their scores, on the host, and the moment at which they were there."""
    prompts, feature, cross_entropy = jax.device_get((ids, scores.feature, scores.cross_entropy))
    return Scored(prompts, feature, cross_entropy, rows, time.perf_counter())


def trace_of(parts: Sequence[Scored], start: float) -> Trace:
    """The trace of all scored prompts, given the clock's time at the start."""
    counts = [len(part.ids) for part in parts]
    return Trace(
        ids=np.concatenate([part.ids for part in parts]),
        feature=np.concatenate([part.feature for part in parts]),
        cross_entropy=np.concatenate([part.cross_entropy for part in parts]),
        rows=np.repeat(np.asarray([part.rows for part in parts], np.int64), counts),
        seconds=np.repeat(np.asarray([part.moment - start for part in parts], np.float64), counts),
    )


def check_budget(task: Task, least: int) -> None:
    """Check that a budget is enough for one round of scores.

    Raises:
        EpoError: it is not.
    """
    if task.budget < least:
        raise EpoError(f"--iterations: a budget of {task.budget} rows, where the first scores take {least}")
