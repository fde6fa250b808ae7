"""What a search found, in numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64

from epo_jax.constraints import Survival
from epo_jax.epo.lengths import bare
from epo_jax.scoring.scale import Scale
from judging.trace import Trace

# Nats/token up to which a hypervolume counts: more is no text, and random tokens lie beyond.
WORST = 12.0
# Nats/token below which the best prompt is told.
BELOW_6, BELOW_4 = 6.0, 4.0
# A search whose best prompt has a smaller z-score never got away from where it started: of 1,024 random prompts of a
# normally distributed feature, one or two are better.
DEAD_BELOW = 3.0
POINTS = 60


@dataclasses.dataclass(frozen=True)
class Measures:
    """A search in numbers; z is in standard deviations above random prompts.

    Attributes:
        prompts: that were scored.
        rows: of tokens that were run for them.
        seconds: that it took, without compilation.
        best: the largest z; None where no score is finite.
        best_below_6: of prompts below 6 nats/token; None where there is none.
        best_below_4: likewise below 4.
        hypervolume: the integral over cross-entropies c from 0 to 12 nats/token of the largest z up to c, at least 0.
        surviving: the hypervolume of those prompts alone whose text is tokenized to the same tokens.
        dead: whether the best z is below `DEAD_BELOW`.
        repetition: share of a frontier prompt's tokens that stand in it before, mean over the frontier; None without.
        survival: share of the frontier whose text is tokenized to the same tokens; likewise.
    """

    prompts: int
    rows: int
    seconds: float
    best: float | None
    best_below_6: float | None
    best_below_4: float | None
    hypervolume: float
    surviving: float
    dead: bool
    repetition: float | None
    survival: float | None


def measure(trace: Trace, scale: Scale, survival: Survival) -> Measures:
    """All measures of a search.

    Args:
        trace: what it scored.
        scale: the feature's, over random prompts.
        survival: says which prompts are the same tokens again.
    """
    z, same = scale.of(trace.feature), np.asarray(survival.looked_up(trace.ids), np.bool_)
    front = trace.ids[frontier(z, trace.cross_entropy)]
    best = best_below(z, trace.cross_entropy, np.inf)
    return Measures(
        prompts=len(trace),
        rows=int(trace.rows.max(initial=0)),
        seconds=float(trace.seconds.max(initial=0.0)),
        best=best,
        best_below_6=best_below(z, trace.cross_entropy, BELOW_6),
        best_below_4=best_below(z, trace.cross_entropy, BELOW_4),
        hypervolume=hypervolume(z, trace.cross_entropy),
        surviving=hypervolume(z[same], trace.cross_entropy[same]),
        dead=best is None or best < DEAD_BELOW,
        repetition=repetition(front) if len(front) else None,
        survival=float(survival.of(front).mean()) if len(front) else None,
    )


def best_below(z: Float[np.ndarray, " N"], cross_entropy: Float[np.ndarray, " N"], limit: float) -> float | None:
    """The largest z of prompts below a cross-entropy, nats/token; None where there is none."""
    values = z[_finite(z, cross_entropy) & (cross_entropy < limit)]
    return float(values.max()) if len(values) else None


def frontier(z: Float[np.ndarray, " N"], cross_entropy: Float[np.ndarray, " N"]) -> Int64[np.ndarray, " n"]:
    """Prompts of at most 12 nats/token that no other one beats in both, the most fluent first, equal ones once."""
    rows = np.flatnonzero(_finite(z, cross_entropy) & (cross_entropy <= WORST))
    rows = rows[np.lexsort((rows, -z[rows], cross_entropy[rows]))]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(z[rows])[:-1]]) if len(rows) else np.zeros(0)
    return rows[z[rows] > before]


def hypervolume(z: Float[np.ndarray, " N"], cross_entropy: Float[np.ndarray, " N"]) -> float:
    """The integral over c from 0 to 12 nats/token of max(0, the largest z of prompts of at most c nats/token)."""
    front = frontier(z, cross_entropy)
    heights = np.maximum(np.asarray(z[front], np.float64), 0.0)
    edges = np.append(np.asarray(cross_entropy[front], np.float64), WORST)
    return float((heights * np.diff(edges)).sum())


def curve(trace: Trace, scale: Scale, budget: int) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Rows, at equal steps up to the budget, and the hypervolume of what was scored until then."""
    rows = np.linspace(0, budget, POINTS + 1)[1:].astype(np.int64)
    z = scale.of(trace.feature)
    counts = np.searchsorted(trace.rows, rows, side="right")
    return rows, np.array([hypervolume(z[:count], trace.cross_entropy[:count]) for count in counts])


def rows_to_reach(target: float, rows: Int64[np.ndarray, " n"], reached: Float64[np.ndarray, " n"]) -> float | None:
    """Rows after which a curve has a hypervolume, linear between its points; None where it never has."""
    there = np.flatnonzero(reached >= target)
    if not len(there):
        return None
    place = int(there[0])
    start, low = (float(rows[place - 1]), float(reached[place - 1])) if place else (0.0, 0.0)
    stop, high = float(rows[place]), float(reached[place])
    return stop if high <= low else start + (stop - start) * max(target - low, 0.0) / (high - low)


def repetition(prompts: Int32[np.ndarray, "n T"]) -> float:
    """The share of tokens that stand in their prompt before, mean over prompts."""
    own = [bare(prompt).tolist() for prompt in prompts]
    return float(np.mean([1 - len(set(prompt)) / len(prompt) for prompt in own]))


def _finite(z: Float[np.ndarray, " N"], cross_entropy: Float[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    return np.isfinite(z) & np.isfinite(cross_entropy)
