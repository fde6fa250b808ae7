"""The frontier as it was while a search went on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from epo_jax.hull import hull_rows


@dataclass(frozen=True)
class Moment:
    """A frontier from the iteration that made it to the next one's.

    Attributes:
        iteration: the first that ended with this frontier.
        rows: its prompts as rows of the history, by ascending cross-entropy.
    """

    iteration: int
    rows: tuple[int, ...]


def frontiers(
    feature: Float[np.ndarray, " M"],
    cross_entropy: Float[np.ndarray, " M"],
    iteration: Int[np.ndarray, " M"],
    ids: Int[np.ndarray, "M T"] | None = None,
) -> tuple[Moment, ...]:
    """Every frontier that a search had: the prompts that were best for some fluency penalty in [0, infinity).

    Args:
        feature: of each scored prompt; values that are not finite are left out.
        cross_entropy: nats/token, likewise.
        iteration: that scored it.
        ids: its tokens, so that a prompt that was scored twice counts once; without them prompts with the same two
            values do.
    """
    order = np.argsort(iteration, kind="stable")
    starts = np.flatnonzero(np.diff(iteration[order], prepend=iteration.min(initial=0) - 1))
    moments: list[Moment] = []
    best = np.zeros(0, np.int64)
    for new in np.split(order, starts[1:]) if len(order) else ():
        # What an earlier frontier lacked can never come back, so that only the last one meets what is new.
        best = hull_rows(feature, cross_entropy, np.concatenate([best, new]))
        rows = _once(best, feature, cross_entropy, ids)
        if rows and (not moments or rows != moments[-1].rows):
            moments.append(Moment(int(iteration[new[0]]), rows))
    return tuple(moments)


def _once(
    rows: Int[np.ndarray, " k"],
    feature: Float[np.ndarray, " M"],
    cross_entropy: Float[np.ndarray, " M"],
    ids: Int[np.ndarray, "M T"] | None,
) -> tuple[int, ...]:
    """The first row of each prompt."""
    first: dict[object, int] = {}
    for row in rows.tolist():
        first.setdefault((feature[row], cross_entropy[row]) if ids is None else ids[row].tobytes(), row)
    return tuple(first.values())
