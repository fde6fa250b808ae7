"""Max-activating dataset examples of a feature, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A max-activating dataset example.

    Attributes:
        document: where it stands.
        before: token texts of the context before the isolated tokens.
        tokens: token texts of the isolated T tokens; the last is the one that is read.
        activation: in context.
        isolated_activation: of the isolated tokens alone, as a dream is scored; None where it was not scored.
        isolated_cross_entropy: nats/token of the same; None likewise.
    """

    document: str
    before: tuple[str, ...]
    tokens: tuple[str, ...]
    activation: float
    isolated_activation: float | None
    isolated_cross_entropy: float | None


@dataclass(frozen=True)
class Examples:
    """What a corpus has of the feature.

    Attributes:
        corpus: its name.
        tokens: that were scanned.
        positions: at which the feature was read.
        maximum: the largest activation in context.
        percentiles: of all activations in the corpus, by percentage (99.9 among them).
        rows: strongest in context first.
        sentence: how the dream compares, in one sentence; empty where that is not known.
    """

    corpus: str
    tokens: int
    positions: int
    maximum: float
    percentiles: Mapping[float, float]
    rows: tuple[Example, ...]
    sentence: str = ""
