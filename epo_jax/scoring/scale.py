"""The size of one unit of a feature, so that a grid of fluency penalties means the same for all features."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Int32

from epo_jax.epo.groups import in_groups
from epo_jax.epo.mutate import random_prompts
from epo_jax.errors import EpoError
from epo_jax.parallel.placing import fetched
from epo_jax.scoring.scorer import LanguageModelScorer

NONE, RANDOM = "none", "random"
# Section 3.5 of the paper.
PROMPTS = 1024
# Prompts that are run at once, so that what is kept of them for many features is small.
GROUP = 64


@dataclasses.dataclass(frozen=True)
class Scale:
    """What a feature's values are taken against: scaled = (value - offset) / unit.

    Attributes:
        offset: the value that counts as 0.
        unit: above 0.
    """

    offset: float = 0.0
    unit: float = 1.0

    def of(self, values: Float32[np.ndarray, "*n"]) -> Float32[np.ndarray, "*n"]:
        """Scaled values."""
        return ((np.asarray(values, np.float64) - self.offset) / self.unit).astype(np.float32)


def parse_scale(scale: str | float) -> str | float:
    """Check what --scale says: "none", "random" or a unit.

    Raises:
        EpoError: another word, or a number that is not finite and above 0.
    """
    if scale in (NONE, RANDOM):
        return scale
    try:
        unit = float(scale)
    except ValueError as error:
        raise EpoError(f"--scale={scale}: not {NONE}, {RANDOM} or a number") from error
    if not 0 < unit < math.inf:
        raise EpoError(f"--scale={scale}: must be a finite number above 0; features are divided by it")
    return unit


def scales_of(
    scorer: LanguageModelScorer, scale: str | float, names: Sequence[str], allowed: Bool[np.ndarray, " V"], length: int
) -> list[Scale]:
    """The scale of each feature of a scorer.

    Args:
        scorer: of R features.
        scale: "none" for the values themselves, "random" for standard deviations from the mean over 1,024 prompts of
            uniformly drawn tokens, the same for every seed, or the number that features are divided by.
        names: of the features.
        allowed: tokens that the random prompts are made of.
        length: of the prompts.

    Raises:
        EpoError: `parse_scale`'s, or a feature that does not vary over random prompts.
    """
    kind = parse_scale(scale)
    if kind != RANDOM:
        return [Scale(0.0, 1.0 if kind == NONE else float(kind))] * len(names)
    return [scale_of(values, name) for values, name in zip(values_of(scorer, allowed, length), names, strict=True)]


def scale_of(values: Float32[np.ndarray, " N"], name: str) -> Scale:
    """Mean and standard deviation of a feature's values, over random prompts.

    Raises:
        EpoError: values that do not vary, or that are not finite.
    """
    exact = np.asarray(values, np.float64)
    one = Scale(float(exact.mean()), float(exact.std()))
    if not (math.isfinite(one.offset) and 0 < one.unit < math.inf):
        raise EpoError(
            f"--scale=random: the values of {name} on {len(values)} random prompts have the mean {one.offset:g} and "
            f"the standard deviation {one.unit:g}, which is no unit; give a number"
        )
    return one


def sampled_prompts(allowed: Bool[np.ndarray, " V"], length: int) -> Int32[Array, "N T"]:
    """The prompts of uniformly drawn allowed tokens that scales are taken over, the same for every seed."""
    return random_prompts(jax.random.key(0, impl="threefry2x32"), jnp.asarray(allowed), PROMPTS, length)


def values_of(scorer: LanguageModelScorer, allowed: Bool[np.ndarray, " V"], length: int) -> Float32[np.ndarray, "R N"]:
    """Every feature of a scorer on each of `sampled_prompts`."""
    return np.asarray(fetched(_values(scorer, sampled_prompts(allowed, length))))


@jax.jit
def _values(scorer: LanguageModelScorer, ids: Int32[Array, "N T"]) -> Float32[Array, "R N"]:
    """Every feature of every prompt; the model runs once for all features, since only they are mapped."""

    def group(ids: Int32[Array, "n T"]) -> Float32[Array, "n R"]:
        def one(part: LanguageModelScorer) -> Float32[Array, " n"]:
            nobody = jnp.zeros(len(ids), jnp.int32)
            return part.whole(ids, nobody, jnp.full_like(nobody, ids.shape[1])).feature

        quick = dataclasses.replace(scorer, fluency=False)
        dreams = jnp.arange(len(scorer.suffix))
        return jax.vmap(lambda dream: one(quick.of_dream(dream)), out_axes=1)(dreams)

    return in_groups(group, ids, GROUP).T
