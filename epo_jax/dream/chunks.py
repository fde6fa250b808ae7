"""Chunks of steps on the device: the next one is under way before the last one's history is fetched."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Generator
from pathlib import Path

import jax
import numpy as np

from epo_jax.constraints import Survival, checked_step
from epo_jax.dream import history as histories
from epo_jax.dream.history import Chunk
from epo_jax.epo import Algorithm, Info, State

# Rows of infos that one call to the device can bring back; how many of them are used follows the speed.
CAPACITY = 16
SECONDS_PER_CHUNK = 1.0
# The iteration that a profile shows: the first one meets what happens once in a process.
PROFILED = 2


@dataclasses.dataclass(frozen=True)
class Pace:
    """How many steps one chunk makes.

    The first chunk makes a single step, and its time says nothing; then chunks last about a second, so that progress is
    seen and Ctrl-C is heard.
    """

    chunks: int = 0
    timed_steps: int = 0
    timed_seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of the next chunk."""
        if math.isnan(self.steps_per_second):
            return 1
        return int(np.clip(self.steps_per_second * SECONDS_PER_CHUNK, 1, CAPACITY))

    @property
    def steps_per_second(self) -> float:
        """Over all chunks but the first; NaN until there is one."""
        return self.timed_steps / self.timed_seconds if self.timed_seconds else math.nan

    def after(self, steps: int, seconds: float) -> Pace:
        """The pace after a chunk that came so long after the last one."""
        if self.chunks == 0:
            return Pace(chunks=1)
        return Pace(self.chunks + 1, self.timed_steps + steps, self.timed_seconds + seconds)


def advanced(
    algorithm: Algorithm,
    state: State,
    iterations: int,
    profile_dir: Path | None = None,
    survival: Survival | None = None,
) -> Generator[tuple[Chunk, Pace]]:
    """Advance a search, giving what it scored chunk by chunk.

    While the caller looks at a chunk, the device works on the next one, which is lost if the caller stops. Where
    children are looked at before they are scored, a chunk is one step.

    Args:
        algorithm: of R dreams.
        state: where to start; its memory is given away.
        iterations: to be made, at least 1.
        profile_dir: where the trace of one iteration is written, the second one if there are two.
        survival: says which children may be scored; None for all.
    """

    def advance(state: State, steps: int) -> tuple[State, Info]:
        if survival is None:
            return algorithm.advance(state, steps, CAPACITY)
        return checked_step(algorithm, survival, state)

    pace, issued = Pace(), 0

    def issue() -> tuple[Info, int]:
        nonlocal state, issued
        steps = min(pace.steps, iterations - issued) if survival is None else 1
        if profile_dir is not None and issued + 1 == min(PROFILED, iterations):
            state, infos = _profiled(advance, state, profile_dir)
        else:
            state, infos = advance(state, steps)
        issued += steps
        return infos, steps

    last = time.monotonic()
    flying: tuple[Info, int] | None = issue()
    while flying is not None:
        infos, steps = flying
        flying = issue() if issued < iterations else None
        chunk = histories.of_infos(infos, steps) if survival is None else histories.of_info(infos)
        now = time.monotonic()
        pace, last = pace.after(steps, now - last), now
        yield chunk, pace


def _profiled(advance: Callable[[State, int], tuple[State, Info]], state: State, folder: Path) -> tuple[State, Info]:
    # Nothing else may run meanwhile, and all of it must have ended.
    jax.block_until_ready(state)
    with jax.profiler.trace(str(folder)):
        return jax.block_until_ready(advance(state, 1))
