"""Suffix-only evaluation held against plain evaluation, for any model."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

import epo_jax
from epo_jax.epo import Candidates
from epo_jax.scoring.assemble import placed_features, scorer_for
from epo_jax.scoring.packing import Blocks
from epo_jax.scoring.template import FrozenTokens

PARENTS, LENGTH, COUNT = 5, 6, 60


def assert_suffix_only_agrees(
    lm: epo_jax.LanguageModel, features: Sequence[str], prefix: Sequence[int], suffix: Sequence[int]
) -> None:
    """Candidates that share their parents' first tokens score as when they are run whole.

    Args:
        lm: the model.
        features: feature strings of one kind, one for each dream.
        prefix: tokens before the optimized ones.
        suffix: tokens behind them.
    """
    frozen = FrozenTokens(*(np.asarray(part, np.int32) for part in (prefix, suffix)))
    tokens = len(prefix) + LENGTH + len(suffix)
    parsed = placed_features([epo_jax.parse_feature(name, lm) for name in features], tokens)
    # Many blocks, each of several candidates.
    scorer = scorer_for(lm, parsed, frozen, "last", LENGTH, Blocks(64, ()))
    rng = np.random.default_rng(0)
    ids = rng.integers(1, lm.config.vocab_size, (PARENTS, LENGTH), np.int32)
    dreams = rng.integers(0, len(features), PARENTS).astype(np.int32)
    parent = rng.integers(0, PARENTS, COUNT).astype(np.int32)
    first = rng.integers(0, LENGTH, COUNT).astype(np.int32)
    # Half of the candidates change one token, the others all from the first edit on.
    changed = np.arange(LENGTH) >= first[:, None]
    changed[::2] = np.arange(LENGTH) == first[::2, None]
    new = np.where(changed, rng.integers(1, lm.config.vocab_size, (COUNT, LENGTH), np.int32), ids[parent])
    candidates = Candidates(*(jnp.asarray(part) for part in (new, parent, dreams[parent])))
    length = jnp.full(COUNT, LENGTH, jnp.int32)

    @jax.jit
    def both(scorer, ids, dreams, candidates, first, length):
        _, parents = scorer.gradients(ids, jnp.ones(PARENTS), dreams)
        whole = scorer.evaluate(None, candidates, jnp.zeros_like(first), length)
        return whole, scorer.evaluate(parents, candidates, first, length)

    expected, found = both(
        scorer, *(jnp.asarray(part) for part in (ids, dreams)), candidates, jnp.asarray(first), length
    )
    assert np.ptp(expected.feature) > 0.05
    np.testing.assert_allclose(found.cross_entropy, expected.cross_entropy, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.feature, expected.feature, rtol=1e-4, atol=1e-5)
