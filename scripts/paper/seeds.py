"""What the seeds of one feature reach, one by one, and what was published of that."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd
from texts.paper import facts, is_papers

import epo_jax
from epo_jax.dream.frontier import Frontier
from epo_jax.report.line import Line
from paper.tables import row_of

# The published figures: nats/token, and the feature.
LIMIT = 5.0
FEATURE = "L10.N5"
SEEDS = 60


@dataclasses.dataclass(frozen=True)
class Seed:
    """One dream of the feature.

    Attributes:
        seed: of its randomness.
        frontier: what it found.
        scored: cross-entropy and feature of every prompt that it scored, which may exceed its frontier, a hull, below a
            limit of cross-entropy.
    """

    seed: int
    frontier: Frontier
    scored: Line

    @property
    def line(self) -> Line:
        """Its frontier, to be drawn."""
        return Line(f"seed {self.seed}", self.frontier.cross_entropy, self.frontier.feature)


def seed_of(result: epo_jax.Result) -> Seed:
    """What counts of a result."""
    history, number = result.history, result.run.seed
    return Seed(number, result.frontier, Line(f"seed {number}", history.cross_entropy, history.feature))


def seeds_table(seeds: Sequence[Seed]) -> str:
    """What each seed reaches, in Markdown."""
    lines = [row_of(["seed", "maximum", f"below {LIMIT:g} nats/token", "prompts of the frontier"])]
    lines.append(row_of(["---:"] * 4))
    for one in seeds:
        fluent = one.scored.largest(LIMIT)
        below = "" if math.isnan(fluent) else f"{fluent:.2f}"
        lines.append(row_of([str(one.seed), f"{one.scored.largest():.2f}", below, str(len(one.frontier))]))
    return "\n".join(lines) + "\n"


def seeds_csv(seeds: Sequence[Seed]) -> str:
    """The frontier of every seed."""
    columns = ["seed", "feature", "cross_entropy", "iteration", "text", "ids"]
    return str(
        pd.concat([one.frontier.to_pandas().assign(seed=one.seed) for one in seeds])[columns].to_csv(index=False)
    )


def published_sentence(lm: epo_jax.LanguageModel, feature: str) -> str:
    """What the paper's seeds reached, where they are of this model and feature; else that they are not."""
    told = facts()
    model, found = told["settings"]["model"], told["L10.N5_over_60_seeds"]
    if not is_papers(lm) or feature != FEATURE:
        return f"The published seeds are of {FEATURE} of {model}, another feature, and are not shown."
    (low, high), (fluent_low, fluent_high) = (
        found["max_activation"],
        found["max_activation_with_cross_entropy_below_5"],
    )
    return (
        f"Published: {SEEDS} seeds of {FEATURE}: maximum from {low:g} to {high:g}, below {LIMIT:g} nats/token from "
        f"{fluent_low:g} to {fluent_high:g}."
    )
