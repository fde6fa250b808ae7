"""What every method is given."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import epo_jax


@dataclasses.dataclass(frozen=True)
class Task:
    """One search that a method is to make.

    Attributes:
        lm: the model.
        feature: feature string.
        seed: of all randomness.
        budget: rows of tokens that may be run, see `judging.rows`.
        config: settings of the searches that have such; its iterations are those that the budget was made of, and a
            method makes as many as it has rows for.
        corpus: text for methods that read some; None where there is none.
    """

    lm: epo_jax.LanguageModel
    feature: str
    seed: int
    budget: int
    config: epo_jax.EPOConfig
    corpus: Path | None = None
