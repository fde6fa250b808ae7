"""Which tokens of a prompt matter, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Replacement:
    """A token that was put in another's place, its text in any characters, and the feature with it."""

    text: str
    value: float


@dataclass(frozen=True)
class TokenDrops:
    """One token of a prompt, and what the feature is without it.

    Attributes:
        text: The token's text; any characters.
        to_worst: How far the feature falls with the worst replacement.
        to_best: How far it falls even with the best one; negative where that one does better than the token.
        worst: Replacements, the worst first.
        best: Replacements, the best first.
    """

    text: str
    to_worst: float
    to_best: float
    worst: tuple[Replacement, ...]
    best: tuple[Replacement, ...]


@dataclass(frozen=True)
class PromptDrops:
    """A prompt whose tokens were replaced one by one.

    Attributes:
        feature: Of the prompt as it is.
        tokens: Its tokens.
        alternatives: How many replacements of each token were tried.
        cross_entropy: In nats/token; None where it is not known.
    """

    feature: float
    tokens: tuple[TokenDrops, ...]
    alternatives: int
    cross_entropy: float | None = None
