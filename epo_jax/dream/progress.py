"""How far a run is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32

from epo_jax.dream.history import Chunk

FLUENT_BELOW = 6.0  # nats/token


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a callback is told after each visit to the host; of several dreams, about all of them together.

    Attributes:
        iteration: iterations made, by each dream.
        iterations: iterations asked for.
        scored: prompts scored so far.
        best_feature: greatest value so far.
        best_fluent_feature: greatest value so far with a cross-entropy below 6 nats/token; -inf if there is none.
        candidates_per_second: over the run, compilation left out; NaN until it is known.
        seconds_left: at that speed; NaN until it is known.
        chunks: what was scored since the last call; at the first one all from the initial prompts on, an earlier part
            of the run included.
        penalties: float32[R, P], what a nat/token costs each dream's slots, in units of its feature.
    """

    iteration: int
    iterations: int
    scored: int
    best_feature: float
    best_fluent_feature: float
    candidates_per_second: float
    seconds_left: float
    chunks: Sequence[Chunk]
    penalties: Float32[np.ndarray, "R P"]


Callback = Callable[[Progress], bool | None]


def together(callbacks: Sequence[Callback]) -> Callback:
    """A callback that calls all of some, and asks for a stop if one of them does."""

    def callback(told: Progress) -> bool:
        # All of them, so that none is left out.
        wanted = [bool(one(told)) for one in callbacks]
        return any(wanted)

    return callback


@dataclasses.dataclass(frozen=True)
class Best:
    """Greatest feature values so far."""

    feature: float = -np.inf
    fluent: float = -np.inf

    def after(self, chunk: Chunk, kept: Bool[np.ndarray, "n R"]) -> Best:
        """The same after more prompts were scored, of which some dreams' iterations count."""
        feature = np.where(kept[..., None] & chunk.finite, chunk.feature, -np.inf)
        fluent = feature[chunk.cross_entropy < FLUENT_BELOW]
        return Best(
            max(self.feature, float(feature.max(initial=-np.inf))),
            max(self.fluent, float(fluent.max(initial=-np.inf))),
        )
