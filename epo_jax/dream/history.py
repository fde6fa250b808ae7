"""Every prompt that a run scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float32, Int32

from epo_jax.epo import Info, State


@dataclasses.dataclass(frozen=True)
class History:
    """Scored prompts in the order in which they were scored: the initial ones, then each iteration's children.

    Attributes:
        ids: int32[N, T].
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


def of_state(state: State) -> History:
    """The initial prompts as history."""
    feature, cross_entropy = np.asarray(state.feature), np.asarray(state.cross_entropy)
    return History(np.asarray(state.ids), feature, cross_entropy, np.zeros(len(feature), np.int32))


def of_infos(infos: Info, steps: int) -> History:
    """What several iterations scored, given infos with a leading axis of which `steps` rows are filled."""
    fetched = jax.device_get((infos.ids, infos.feature, infos.cross_entropy, infos.iteration))
    ids, feature, cross_entropy, iteration = (array[:steps] for array in fetched)
    return History(
        ids.reshape(-1, ids.shape[-1]),
        feature.reshape(-1),
        cross_entropy.reshape(-1),
        np.repeat(iteration, ids.shape[1]),
    )


def joined(parts: Sequence[History]) -> History:
    """Histories one after the other; there must be at least one."""
    return History(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.feature for part in parts]),
        np.concatenate([part.cross_entropy for part in parts]),
        np.concatenate([part.iteration for part in parts]),
    )
