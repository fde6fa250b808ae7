"""A feature of one model and the fluency of another with the same tokens (section 2 of the paper)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Float32, Int32
from transformers import PreTrainedTokenizerFast

from epo_jax.epo.scorer import Candidates, Scores
from epo_jax.errors import EpoError
from epo_jax.features.base import Label, OneNumber
from epo_jax.models import LanguageModel
from epo_jax.scoring.packing import Blocks
from epo_jax.scoring.parents import ParentRows
from epo_jax.scoring.scorer import LanguageModelScorer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NoFeature(OneNumber):
    """Zero, for a model that is asked for fluency alone."""

    depth: Int32[Array, "*R"]
    label: Label = dataclasses.field(metadata={"static": True})

    @property
    def sites(self) -> tuple[str, ...]:
        """None."""
        return ()

    def observe(
        self, kept: Float32[Array, ""], site: str, layer: Int32[Array, ""], value: Float[Array, "..."]
    ) -> Float32[Array, ""]:
        """Nothing is ever shown."""
        return kept


def no_feature() -> NoFeature:
    """The feature; it lies below all layers, so that no row is run for it."""
    return NoFeature(jnp.int32(-1), Label("none"))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoModelScorer:
    """Features under one model, cross-entropies under another; for `epo.Scorer`.

    Attributes:
        feature: scores without fluency.
        fluency: scores of `no_feature`.
    """

    feature: LanguageModelScorer
    fluency: LanguageModelScorer

    @property
    def blocks(self) -> Blocks:
        """Sizes of the work on candidates, the same for both models."""
        return self.feature.blocks

    def with_blocks(self, blocks: Blocks) -> TwoModelScorer:
        """The same with other sizes of the work on candidates."""
        return TwoModelScorer(self.feature.with_blocks(blocks), self.fluency.with_blocks(blocks))

    @property
    def after(self) -> int:
        """Tokens after the optimized ones."""
        return self.feature.after

    @property
    def vocabulary(self) -> int:
        """Tokens that the larger of the models knows."""
        return max(self.feature.vocabulary, self.fluency.vocabulary)

    def gradients(
        self,
        ids: Int32[Array, "N T"],
        penalties: Float32[Array, " N"],
        dream: Int32[Array, " N"],
        length: Int32[Array, " N"] | None = None,
    ) -> tuple[Float32[Array, "N T V"], tuple[ParentRows, ParentRows]]:
        """Gradient of each prompt's objective; V is the first model's, whose own tokens get its part alone."""
        found, parents = self.feature.gradients(ids, jnp.zeros_like(penalties), dream, length)
        fluent, more = self.fluency.gradients(ids, penalties, jnp.zeros_like(dream), length)
        # What only fills up the room for tokens has gradients that mean nothing.
        shared = min(self.feature.vocabulary, self.fluency.vocabulary)
        fluent = jnp.where(jnp.arange(fluent.shape[2]) < shared, fluent, 0)
        width = found.shape[2]
        fluent = jnp.pad(fluent[..., :width], ((0, 0), (0, 0), (0, max(0, width - fluent.shape[2]))))
        return found + fluent, (parents, more)

    @property
    def first_scored(self) -> int:
        """The first optimized token that has a predecessor."""
        return self.fluency.first_scored

    def parents(
        self, ids: Int32[Array, "N T"], dream: Int32[Array, " N"], length: Int32[Array, " N"] | None = None
    ) -> tuple[ParentRows, ParentRows]:
        """What evaluation needs of prompts, by forward passes of both models."""
        return self.feature.parents(ids, dream, length), self.fluency.parents(ids, jnp.zeros_like(dream), length)

    def log_probs(self, parents: tuple[ParentRows, ParentRows]) -> Float32[Array, "N T V"]:
        """Log-probabilities under the model that fluency is of, as wide as the first one's vocabulary."""
        found, width = self.fluency.log_probs(parents[1]), self.feature.vocabulary
        return jnp.pad(found[..., :width], ((0, 0), (0, 0), (0, max(0, width - found.shape[2]))))

    def evaluate(
        self,
        parents: tuple[ParentRows, ParentRows] | None,
        candidates: Candidates,
        first_edit: Int32[Array, " C"],
        length: Int32[Array, " C"],
    ) -> Scores:
        """Scores of candidates, see `LanguageModelScorer.evaluate`."""
        of_feature, of_fluency = (None, None) if parents is None else parents
        found = self.feature.evaluate(of_feature, candidates, first_edit, length)
        nobody = dataclasses.replace(candidates, dream=jnp.zeros_like(candidates.dream))
        fluent = self.fluency.evaluate(of_fluency, nobody, first_edit, length)
        return Scores(found.feature, fluent.cross_entropy)


def shared_tokens(lm: LanguageModel, other: LanguageModel) -> Bool[np.ndarray, " V"]:
    """Which tokens of a model another model has too.

    Returns:
        bool[V] of the first model's vocabulary.

    Raises:
        EpoError: an id that stands for different tokens in the two.
    """
    mine, theirs = _tokens(lm.tokenizer, lm.config.vocab_size), _tokens(other.tokenizer, other.config.vocab_size)
    for index in sorted(mine.keys() & theirs.keys()):
        if mine[index] != theirs[index]:
            raise EpoError(
                f"--fluency_model={other.source}: its tokenizer is another one: id {index} is {theirs[index]!r} there "
                f"and {mine[index]!r} in {lm.source}; both models must have the same tokens"
            )
    if len(mine.keys() & theirs.keys()) < min(len(mine), len(theirs)) / 2:
        raise EpoError(
            f"--fluency_model={other.source}: its tokenizer is another one: of {len(theirs)} tokens it has only "
            f"{len(mine.keys() & theirs.keys())} in common with {lm.source}"
        )
    shared = np.zeros(lm.config.vocab_size, np.bool_)
    shared[sorted(mine.keys() & theirs.keys())] = True
    return shared


def _tokens(tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items() if index < vocabulary}
