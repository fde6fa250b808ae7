"""Tables of frontiers: a feature's prompts, with what the paper published of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
from texts.paper import facts, is_papers

import epo_jax
from epo_jax.dream.frontier import Frontier


def merged(results: Iterable[epo_jax.Result]) -> dict[str, Frontier]:
    """The frontier of each feature, over its seeds, in the order of the results."""
    together: dict[str, list[epo_jax.Result]] = {}
    for result in results:
        together.setdefault(result.run.feature, []).append(result)
    return {feature: epo_jax.merge_frontiers(own) for feature, own in together.items()}


def frontiers_csv(frontiers: dict[str, Frontier]) -> str:
    """All prompts, a row for each."""
    parts = [frontier.to_pandas().assign(name=feature) for feature, frontier in frontiers.items()]
    table = pd.concat(parts)
    columns = ["name", "feature", "cross_entropy", "perplexity", "iteration", "text", "ids"]
    return str(table[columns].rename(columns={"name": "feature", "feature": "value"}).to_csv(index=False))


def about_published(lm: epo_jax.LanguageModel, what: str) -> str:
    """Whether the paper's figures are shown, in a sentence.

    Args:
        lm: the model.
        what: was published.
    """
    model = facts()["settings"]["model"]
    if is_papers(lm):
        return f"{what[0].upper()}{what[1:]}, published for {model}, stand among them."
    return f"{what[0].upper()}{what[1:]} are of {model}, another model, and are not shown."


def seeds_told(seeds: Sequence[int]) -> str:
    """Seeds in words."""
    if len(seeds) == 1:
        return f"Seed {seeds[0]}."
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"Seeds {seeds[0]} to {seeds[-1]}."
    return f"Seeds {', '.join(map(str, seeds))}."
