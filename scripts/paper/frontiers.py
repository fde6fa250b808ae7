"""Tables of frontiers: a feature's prompts, with what the paper published of it."""

from __future__ import annotations

from collections.abc import Iterable

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
        what: was published, as the start of a sentence.
    """
    model = facts()["settings"]["model"]
    if is_papers(lm):
        return f"{what}, of {model} too, stand beside ours."
    return f"{what} are of {model}, another model, and are not shown."
