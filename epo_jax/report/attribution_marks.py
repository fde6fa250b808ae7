"""Which tokens of a prompt matter, as shades, bars and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epo_jax.report.attribution_data import PromptDrops
from epo_jax.report.data import format_feature


@dataclass(frozen=True)
class TokenMarks:
    """A token as it is drawn.

    Attributes:
        shade: 0 to 1, the drop to the worst replacement as a share of the prompt's largest; 0 where there is none.
        bar: 0 to 1, the drop to the best replacement on the same scale; 0 where there is none.
        to_worst: The number, as text.
        to_best: Likewise.
    """

    shade: float
    bar: float
    to_worst: str
    to_best: str


def marks(prompt: PromptDrops) -> tuple[TokenMarks, ...]:
    """How the tokens of a prompt are drawn."""
    largest = largest_drop(prompt)
    drops = np.array([[token.to_worst, token.to_best] for token in prompt.tokens], np.float64).reshape(-1, 2)
    texts = format_feature(-drops.ravel())
    return tuple(
        TokenMarks(
            shade=_share(to_worst, largest),
            bar=_share(to_best, largest),
            to_worst=signed(texts[2 * index], -to_worst),
            to_best=signed(texts[2 * index + 1], -to_best),
        )
        for index, (to_worst, to_best) in enumerate(drops.tolist())
    )


def largest_drop(prompt: PromptDrops) -> float:
    """The largest finite drop to a worst replacement; 0 where the feature never falls."""
    return max((token.to_worst for token in prompt.tokens if math.isfinite(token.to_worst)), default=0.0)


def formatted(values: Sequence[float]) -> tuple[str, ...]:
    """Feature values as text, with one number of decimals for all."""
    return format_feature(np.asarray(values, np.float64))


def signed(text: str, value: float) -> str:
    """A change as text: with a plus where the feature rises, and without a sign where it rounds to nothing."""
    if text.strip("\N{MINUS SIGN}0.,") == "":
        return text.lstrip("\N{MINUS SIGN}")
    return f"+{text}" if value > 0 else text


def _share(drop: float, largest: float) -> float:
    return min(max(drop / largest, 0.0), 1.0) if largest > 0 and math.isfinite(drop) else 0.0
