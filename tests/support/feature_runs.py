"""One program for what a search does with features: gradients, whole prompts, candidates from their edits on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

import epo_jax
from epo_jax.epo import Candidates, Scores
from epo_jax.scoring.assemble import placed_features, scorer_for
from epo_jax.scoring.packing import Blocks
from epo_jax.scoring.scorer import LanguageModelScorer
from epo_jax.scoring.template import FrozenTokens

PREFIX, SUFFIX = (0, 5, 9), (7, 33)
LENGTH, CHILDREN = 6, 10
PENALTIES = (0.0, 0.3, 3.0, 1.0)
# A block holds some candidates of 8 tokens, and is run in chunks.
MANY_BLOCKS = Blocks(64, (16,))


@dataclasses.dataclass(frozen=True)
class Run:
    """What became of prompts and their candidates.

    Attributes:
        ids: int[N, 3 + 6 + 2], the prompts in their template.
        dream: int[N], which feature each is about.
        gradients: float32[N, 6, V], under `PENALTIES`.
        prompts: scores of the prompts.
        whole: scores of their candidates, run whole.
        suffix_only: scores of their candidates, run from their first edits on.
    """

    ids: np.ndarray
    dream: np.ndarray
    gradients: jax.Array
    prompts: Scores
    whole: Scores
    suffix_only: Scores


def run(
    lm: epo_jax.LanguageModel, features: Sequence[str], read: str | int = "last", blocks: Blocks = MANY_BLOCKS
) -> Run:
    """Run random prompts and candidates of them.

    Args:
        lm: the model.
        features: strings of one kind; the prompts are about one after the other.
        read: where they are read.
        blocks: sizes of the work on candidates.
    """
    parsed = [epo_jax.parse_feature(text, lm) for text in features]
    placed = placed_features(parsed, len(PREFIX) + LENGTH + len(SUFFIX))
    frozen = FrozenTokens(np.asarray(PREFIX, np.int32), np.asarray(SUFFIX, np.int32))
    scorer = scorer_for(lm, placed, frozen, read, LENGTH, blocks)
    rng = np.random.default_rng(0)
    count = len(PENALTIES)
    prompts = rng.integers(1, 260, (count, LENGTH), np.int32)
    dream = np.arange(count, dtype=np.int32) % len(features)
    parent = np.repeat(np.arange(count, dtype=np.int32), CHILDREN)
    first = rng.integers(0, LENGTH, len(parent)).astype(np.int32)
    # Half of the candidates change one token, the others all from the first edit on.
    changed = np.arange(LENGTH) >= first[:, None]
    changed[::2] = np.arange(LENGTH) == first[::2, None]
    children = np.where(changed, rng.integers(1, 260, changed.shape, np.int32), prompts[parent])
    found = _run(scorer, *(jnp.asarray(part) for part in (prompts, dream, children, parent, first)))
    ids = np.concatenate([np.tile(PREFIX, (count, 1)), prompts, np.tile(SUFFIX, (count, 1))], axis=1)
    return Run(ids, dream, *found)


def programs() -> int:
    """Programs compiled so far."""
    return _run._cache_size()


@jax.jit
def _run(
    scorer: LanguageModelScorer,
    prompts: jax.Array,
    dream: jax.Array,
    children: jax.Array,
    parent: jax.Array,
    first: jax.Array,
) -> tuple[jax.Array, Scores, Scores, Scores]:
    count = len(prompts)
    gradients, parents = scorer.gradients(prompts, jnp.asarray(PENALTIES), dream)
    everything = Candidates(
        jnp.concatenate([prompts, children]),
        jnp.concatenate([jnp.arange(count, dtype=jnp.int32), parent]),
        jnp.concatenate([dream, dream[parent]]),
    )
    first = jnp.concatenate([jnp.zeros(count, jnp.int32), first])
    length = jnp.full_like(first, LENGTH)
    whole = scorer.evaluate(None, everything, first, length)
    suffix_only = scorer.evaluate(parents, everything, first, length)
    prompts_scores = jax.tree.map(lambda scores: scores[:count], whole)
    return gradients, prompts_scores, whole, suffix_only
