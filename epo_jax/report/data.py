"""What a report shows, as plain data, and the few numbers that are derived from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from epo_jax.report.attribution_data import PromptDrops
from epo_jax.report.examples_data import Examples

FLUENT_BELOW = 6.0
"""Cross-entropy in nats/token below which a prompt counts as fluent, for "the best fluent prompt"."""


@dataclass(frozen=True, eq=False)
class ReportData:
    """One dream's frontier, history and provenance.

    N frontier prompts, ordered by cross-entropy and by feature, both ascending; M scored prompts, in any order.
    Cross-entropies are nats/token. Raises ValueError where lengths disagree.

    Attributes:
        feature: The feature's string, such as "L10.N5" or "logit: dog".
        model: The model's name.
        frontier_feature: float32[N].
        frontier_cross_entropy: float32[N].
        frontier_tokens: The text of each token of each prompt; any characters.
        frontier_iteration: int[N], the iteration that found the prompt first.
        history_feature: float32[M]; may hold non-finite values.
        history_cross_entropy: float32[M]; may hold non-finite values.
        history_iteration: int[M].
        settings: Name to value.
        versions: Package to version.
        command: The command that reruns the dream.
        prefix: Frozen template text before the prompt.
        suffix: Frozen template text after the prompt.
        stopped: Why the run ended early; empty if it did not.
        columns: More of the frontier's prompts, name to N values: numbers in units of the feature, or truths.
        attributions: Frontier row (from 0) to which of its tokens matter; rows may be left out.
        history_ids: int[M, T], the tokens of the scored prompts, below 0 where there is none; None where a report need
            not show them.
        token_texts: The text of every token in history_ids; any characters. Empty where texts are not known; scored
            prompts then have numbers only.
        continuations: Frontier row (from 0) to the texts of the tokens that the model itself continues the prompt with.
        examples: Max-activating dataset examples, from a scan; None where there was none.
    """

    feature: str
    model: str
    frontier_feature: Float[np.ndarray, "N"]
    frontier_cross_entropy: Float[np.ndarray, "N"]
    frontier_tokens: tuple[tuple[str, ...], ...]
    frontier_iteration: Int[np.ndarray, "N"]
    history_feature: Float[np.ndarray, "M"]
    history_cross_entropy: Float[np.ndarray, "M"]
    history_iteration: Int[np.ndarray, "M"]
    settings: Mapping[str, object]
    versions: Mapping[str, str]
    command: str
    prefix: str = ""
    suffix: str = ""
    stopped: str = ""
    columns: Mapping[str, Sequence[float | bool]] = field(default_factory=dict)
    attributions: Mapping[int, PromptDrops] = field(default_factory=dict)
    history_ids: Int[np.ndarray, "M T"] | None = None
    token_texts: Mapping[int, str] = field(default_factory=dict)
    continuations: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    examples: Examples | None = None

    def __post_init__(self) -> None:
        for kind in ("frontier", "history"):
            arrays = {name: value for name, value in vars(self).items() if name.startswith(f"{kind}_")}
            lengths = {name: len(value) for name, value in arrays.items() if value is not None}
            if kind == "frontier":
                lengths |= {name: len(values) for name, values in self.columns.items()}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"the {kind}'s lengths disagree: {lengths}")


def format_columns(data: ReportData) -> dict[str, tuple[str, ...]]:
    """The further columns of the frontier as texts: numbers as features are, truths as yes and no."""
    return {
        name: tuple("yes" if value else "no" for value in values)
        if all(isinstance(value, (bool, np.bool_)) for value in values)
        else format_feature(np.asarray(values, np.float64))
        for name, values in data.columns.items()
    }


def perplexity(cross_entropy: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """exp(cross-entropy), float64 of the same shape; infinite where it overflows."""
    with np.errstate(over="ignore"):
        return np.exp(np.asarray(cross_entropy, np.float64))


def best_overall(data: ReportData) -> int | None:
    """The index of the frontier prompt with the largest feature; None where no feature is finite."""
    return _best(data.frontier_feature, np.isfinite(data.frontier_cross_entropy))


def best_fluent(data: ReportData) -> int | None:
    """The index of the frontier prompt with the largest feature below FLUENT_BELOW nats/token; None without one."""
    return _best(data.frontier_feature, data.frontier_cross_entropy < FLUENT_BELOW)


def iterations(data: ReportData) -> int:
    """The iterations that the history covers (the initial prompts are iteration 0)."""
    return int(data.history_iteration.max()) if data.history_iteration.size else 0


def format_feature(values: Float[np.ndarray, "n"]) -> tuple[str, ...]:
    """The values with one number of decimals for all, at least three significant digits in the largest."""
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    if largest == 0.0 or 1e-4 <= largest < 1e6:
        decimals = 2 if largest == 0.0 else min(max(2 - math.floor(math.log10(largest)), 0), 6)
        return tuple(_minus(f"{value:,.{decimals}f}") for value in values)
    return tuple(_minus(f"{value:.3g}") for value in values)


def format_cross_entropy(values: Float[np.ndarray, "n"]) -> tuple[str, ...]:
    """The values in nats/token with two decimals."""
    return tuple(_minus(f"{value:.2f}") for value in values)


def format_perplexity(cross_entropy: Float[np.ndarray, "n"]) -> tuple[str, ...]:
    """The perplexities of the cross-entropies, with three significant digits or whole: 1.73, 54.6, 1,234, 3.1e+08."""
    return tuple(_significant(value) for value in perplexity(cross_entropy))


def _best(feature: Float[np.ndarray, "n"], allowed: np.ndarray) -> int | None:
    allowed = allowed & np.isfinite(feature)
    return int(np.argmax(np.where(allowed, feature, -np.inf))) if allowed.any() else None


def _significant(value: float) -> str:
    if not math.isfinite(value) or value >= 1e6:
        return f"{value:.2g}"
    return f"{value:,.{max(2 - math.floor(math.log10(max(value, 1.0))), 0)}f}"


def _minus(text: str) -> str:
    # The real minus sign has the width of a digit, so that columns of numbers line up.
    return text.replace("-", "\N{MINUS SIGN}") if "e" not in text else text
