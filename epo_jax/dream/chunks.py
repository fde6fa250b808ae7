"""Chunks of steps on the device: the next one is under way before the last one's history is fetched."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from epo_jax.constraints import Survival, checked_step
from epo_jax.dream import history as histories
from epo_jax.dream.history import Chunk
from epo_jax.epo import Algorithm, Info, State
from epo_jax.epo.guide import Memory, Scored
from epo_jax.parallel.processes import agreed

# Rows of infos that one call to the device can bring back; how many of them are used follows the speed.
CAPACITY = 16
SECONDS_PER_CHUNK = 1.0
# Named, so that a session's own default cannot change what a seed means.
GENERATOR = "threefry2x32"
# The iteration that a profile shows: the first one meets what happens once in a process.
PROFILED = 2

# Stands before the names of what a guided search remembers.
MEMORY = "memory."

# Infos, how many rows of them are filled, and the state after them.
Issued = tuple[Info, int, Mapping[str, jax.Array] | None]


@dataclasses.dataclass(frozen=True)
class Pace:
    """How many steps one chunk makes.

    The first chunk makes a single step, and its time says nothing; then chunks last up to a second, so that progress is
    seen and Ctrl-C is heard. Their lengths are powers of two, and they end at multiples of their length.
    """

    chunks: int = 0
    timed_steps: int = 0
    timed_seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of the next chunk."""
        if math.isnan(self.steps_per_second):
            return 1
        most = min(self.steps_per_second * SECONDS_PER_CHUNK, CAPACITY)
        return 2 ** int(math.log2(max(most, 1)))

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
    start: int = 0,
    kept: bool = False,
) -> Generator[tuple[Chunk, Pace, Mapping[str, jax.Array] | None]]:
    """Advance a search, giving what it scored chunk by chunk.

    While the caller looks at a chunk, the device works on the next one, which is lost if the caller stops. Where
    children are looked at before they are scored, a chunk is one step. With each chunk comes the state after it, as
    `plain_state` gives it, if it is asked for.

    Args:
        algorithm: of R dreams.
        state: where to start; its memory is given away.
        iterations: where to end.
        profile_dir: where the trace of one iteration is written, the second one if there are two.
        survival: says which children may be scored; None for all.
        start: iterations that the state has behind it, fewer than `iterations`.
        kept: whether states are asked for.
    """

    def advance(state: State, steps: int) -> tuple[State, Info]:
        if survival is None:
            return algorithm.advance(state, steps, CAPACITY)
        return checked_step(algorithm, survival, state)

    pace, issued = Pace(), start
    profiled = start + min(PROFILED, iterations - start)

    def issue() -> Issued:
        nonlocal state, issued
        # Clocks differ: all processes go by the first one's.
        length = agreed(pace.steps, "steps") if survival is None else 1
        steps = min(length - issued % length, iterations - issued)
        if profile_dir is not None and issued + 1 == profiled:
            steps = 1
            state, infos = _profiled(advance, state, profile_dir)
        else:
            state, infos = advance(state, steps)
        issued += steps
        # Now, since the next chunk takes the state's memory.
        return infos, steps, plain_state(state) if kept else None

    last = time.monotonic()
    flying: Issued | None = issue()
    while flying is not None:
        infos, steps, after = flying
        flying = issue() if issued < iterations else None
        chunk = histories.of_infos(infos, steps) if survival is None else histories.of_info(infos)
        now = time.monotonic()
        pace, last = pace.after(steps, now - last), now
        yield chunk, pace, after


@jax.jit
def plain_state(state: State) -> dict[str, jax.Array]:
    """A copy of a state as arrays by name, its keys as numbers; `state_of` makes one of them again."""
    arrays = {name: getattr(state, name) for name in ("ids", "feature", "cross_entropy", "iteration")}
    for path, array in jax.tree_util.tree_leaves_with_path(state.memory):
        arrays[MEMORY + jax.tree_util.keystr(path, simple=True, separator=".")] = array
    # Copies, since what a jitted function passes through is the very same array.
    return {**{name: jnp.copy(array) for name, array in arrays.items()}, "key": jax.random.key_data(state.key)}


def state_of(arrays: Mapping[str, jax.Array]) -> State:
    """The state that `plain_state` gave the arrays of."""
    own: dict[str, Any] = {name: array for name, array in arrays.items() if not name.startswith(MEMORY)}
    key = jax.random.wrap_key_data(own.pop("key"), impl=GENERATOR)
    if len(own) + 1 == len(arrays):
        return State(key=key, **own)
    # What is not there was None.
    remembered: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Memory))
    prompts: dict[str, dict[str, jax.Array]] = {}
    for name, array in arrays.items():
        if name.startswith(MEMORY):
            part, _, inside = name.removeprefix(MEMORY).partition(".")
            if inside:
                prompts.setdefault(part, {})[inside] = array
            else:
                remembered[part] = array
    remembered |= {name: Scored(**parts) for name, parts in prompts.items()}
    return State(key=key, memory=Memory(**remembered), **own)


def _profiled(advance: Callable[[State, int], tuple[State, Info]], state: State, folder: Path) -> tuple[State, Info]:
    # Nothing else may run meanwhile, and all of it must have ended.
    jax.block_until_ready(state)
    with jax.profiler.trace(str(folder)):
        return jax.block_until_ready(advance(state, 1))
