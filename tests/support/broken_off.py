"""Runs that are broken off between two iterations, and gone on with."""

from __future__ import annotations

import dataclasses

import pytest

import epo_jax
from epo_jax import EPOConfig

# The shapes of test_dream.py, whose programs serve here too.
SMALL = EPOConfig(iterations=7, population=3, children=4, length=5, top_k=40, restart_every=3)
# Three operators, one of each kind, compile in half the time of all.
GUIDED = dataclasses.replace(
    SMALL,
    search="best",
    operators="model_swap:0.4,gradient_swap:0.3,crossover:0.3",
    beam=False,
    beginnings=1,
    model_starts=6,
    random_starts=4,
)
HISTORY = "history.npz"


class BrokenOffError(Exception):
    """What a callback raises."""


def breaking_off(after: int):
    def callback(told: epo_jax.Progress) -> None:
        if told.iteration >= after:
            raise BrokenOffError

    return callback


def broken(lm, output, *after, feature="L1.N5", seed=4, config=SMALL, **options):
    """A run that is broken off after some iterations, one after the other."""
    for iteration in after:
        with pytest.raises(BrokenOffError):
            epo_jax.dream(
                lm,
                feature,
                config,
                seed=seed,
                output=output,
                resume=True,
                report=False,
                callback=breaking_off(iteration),
                **{"checkpoint_every": 0, **options},
            )
    return output


def gone_on(lm, output, feature="L1.N5", seed=4, config=SMALL, **options):
    return epo_jax.dream(lm, feature, config, seed=seed, output=output, resume=True, report=False, **options)
