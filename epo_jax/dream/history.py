"""Every prompt that a run scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int32

from epo_jax.epo import Info, State
from epo_jax.parallel.placing import fetched


@dataclasses.dataclass(frozen=True)
class History:
    """Scored prompts in the order in which they were scored: the initial ones, then each iteration's children.

    Attributes:
        ids: int32[N, T], of a prompt of fewer tokens with -1 behind its last.
        feature: float32[N].
        cross_entropy: float32[N], in nats/token.
        iteration: int32[N]; 0 for the initial prompts.
    """

    ids: Int32[np.ndarray, "N T"]
    feature: Float32[np.ndarray, " N"]
    cross_entropy: Float32[np.ndarray, " N"]
    iteration: Int32[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What R dreams scored in n iterations, on the host.

    Attributes:
        ids: int32[n, R, C, T]; C is P for the initial prompts.
        feature: float32[n, R, C].
        cross_entropy: float32[n, R, C], in nats/token.
        scored: bool[n, R, C]; False in the places of children that could not be made.
        iteration: int32[n]; 0 for the initial prompts.
    """

    ids: Int32[np.ndarray, "n R C T"]
    feature: Float32[np.ndarray, "n R C"]
    cross_entropy: Float32[np.ndarray, "n R C"]
    scored: Bool[np.ndarray, "n R C"]
    iteration: Int32[np.ndarray, " n"]

    @property
    def finite(self) -> Bool[np.ndarray, "n R C"]:
        """Which scores are numbers."""
        return self.scored & np.isfinite(self.feature) & np.isfinite(self.cross_entropy)

    @property
    def broken(self) -> Bool[np.ndarray, "n R"]:
        """Which iterations have a score that is no number."""
        broken: Bool[np.ndarray, "n R"] = (self.scored & ~self.finite).any(axis=2)
        return broken

    def of(self, dream: int, last: int) -> History:
        """What one dream scored up to an iteration."""
        upto = int(np.searchsorted(self.iteration, last, side="right"))
        scored = self.scored[:upto, dream]
        return History(
            self.ids[:upto, dream][scored],
            self.feature[:upto, dream][scored],
            self.cross_entropy[:upto, dream][scored],
            np.repeat(self.iteration[:upto], scored.sum(axis=1)),
        )


def of_state(state: State) -> Chunk:
    """The initial prompts of R dreams, those of later beginnings included."""
    parts = [fetched((state.ids, state.feature, state.cross_entropy))]
    if state.memory is not None and state.memory.waiting is not None:
        waiting = state.memory.waiting
        parts.append(fetched((waiting.ids, waiting.feature, waiting.cross_entropy)))
    # Joined into copies: on a CPU what is fetched is the state's own memory, which the first steps take over.
    ids, feature, cross_entropy = (np.concatenate(each, axis=1)[None] for each in zip(*parts, strict=True))
    return Chunk(ids, feature, cross_entropy, np.ones(feature.shape, np.bool_), np.zeros(1, np.int32))


def of_infos(infos: Info, steps: int) -> Chunk:
    """What several iterations scored, given infos with a leading axis of which `steps` rows are filled."""
    told = fetched((infos.ids, infos.feature, infos.cross_entropy, infos.scored, infos.iteration))
    # Copies, which do not keep the rows that are not filled.
    ids, feature, cross_entropy, scored, iteration = (array[:steps].copy() for array in told)
    return Chunk(ids, feature, cross_entropy, scored, iteration[:, 0])


def of_info(info: Info) -> Chunk:
    """What one iteration scored."""
    told = fetched((info.ids, info.feature, info.cross_entropy, info.scored, info.iteration))
    ids, feature, cross_entropy, scored, iteration = (array[None].copy() for array in told)
    return Chunk(ids, feature, cross_entropy, scored, iteration[:, 0])


def joined(parts: Sequence[History]) -> History:
    """Histories one after the other; there must be at least one."""
    return History(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.feature for part in parts]),
        np.concatenate([part.cross_entropy for part in parts]),
        np.concatenate([part.iteration for part in parts]),
    )
