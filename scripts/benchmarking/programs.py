"""Our side: the programs of an iteration, compiled ahead of time, and a round of measurements of them."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Int32

from benchmarking.results import GRADIENTS, ITERATION, PLAIN, SUFFIX, Difference, Line, Sample
from epo_jax.epo import Algorithm, Candidates, State
from epo_jax.models.config import DTYPES, DecoderConfig
from epo_jax.planning import operations as flops

T = TypeVar("T")
# A measurement lasts at least this long, so that the clock and the way to the device do not matter.
LEAST_SECONDS = 0.3
MOST_CALLS = 64
# As many as the library's own loop makes at most.
MOST_STEPS = 16


@dataclasses.dataclass(frozen=True)
class Program:
    """A function compiled for the shapes of some arguments.

    Attributes:
        run: the function.
        compile_seconds: from Python to a program for the device.
        memory: bytes that it takes beyond its arguments; None where the compiler does not tell.
    """

    run: Callable[..., Any]
    compile_seconds: float
    memory: int | None

    def line(self, name: str, samples: Sequence[Sample], candidates: int = 0, dreams: int = 0) -> Line:
        """Its line in the results."""
        return Line(name, tuple(samples), candidates, self.compile_seconds, self.memory, dreams)


def compiled(function: Callable[..., Any], *arguments: Any, donated: tuple[int, ...] = ()) -> Program:
    """Compile a function for these arguments, without running it."""
    begun = time.perf_counter()
    program = jax.jit(function, donate_argnums=donated).lower(*arguments).compile()
    seconds = time.perf_counter() - begun
    found = program.memory_analysis()
    memory = found and found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return Program(program, seconds, memory)


def timed(function: Callable[[], T], calls: int) -> tuple[T, float]:
    """The last result of some calls, and the seconds of one."""
    begun = time.perf_counter()
    for _ in range(calls):
        result = function()
    jax.block_until_ready(result)
    return result, (time.perf_counter() - begun) / calls


def calls_for(seconds: float) -> int:
    """How often something that takes so long is called in one measurement."""
    return min(MOST_CALLS, max(1, math.ceil(LEAST_SECONDS / seconds)))


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """A large square matrix product in a model's dtype and precision: the most that the device is seen to do."""

    program: Program
    factors: tuple[jax.Array, jax.Array]

    @classmethod
    def of(cls, config: DecoderConfig, size: int, seed: int) -> Ceiling:
        """Compile it for matrices of this size."""
        keys = jax.random.split(jax.random.key(seed))
        left, right = (jax.random.normal(key, (size, size), DTYPES[config.dtype]) for key in keys)
        program = compiled(lambda a, b: jnp.matmul(a, b, precision=config.precision), left, right)
        return cls(program, (left, right))

    def measure(self, calls: int) -> Sample:
        """One measurement."""
        _, seconds = timed(lambda: self.program.run(*self.factors), calls)
        return Sample(seconds, 2 * float(self.factors[0].shape[0]) ** 3)


@dataclasses.dataclass(frozen=True)
class Search:
    """Iterations of one or more dreams in one program.

    Attributes:
        algorithm: the search.
        advance: (algorithm, state) -> (state, infos), several iterations.
        steps: their number.
    """

    algorithm: Algorithm
    advance: Program
    steps: int

    @classmethod
    def of(cls, algorithm: Algorithm, keys: jax.Array, steps: int) -> tuple[Search, State]:
        """Compile it, and score the initial prompts."""
        state = algorithm.init(keys)
        program = compiled(lambda a, s: a.advance(s, steps, steps), algorithm, state, donated=(1,))
        return cls(algorithm, program, steps), state

    def measure(self, state: State, calls: int) -> tuple[State, Any, float]:
        """The state after some calls, the first one's infos, and the seconds of one iteration."""
        first: list[Any] = []

        def once() -> State:
            nonlocal state
            state, infos = self.advance.run(self.algorithm, state)
            if not first:
                first.append(infos)
            return state

        state, seconds = timed(once, calls)
        return state, first[0], seconds / self.steps


@dataclasses.dataclass(frozen=True)
class Pieces:
    """An iteration of one dream and its parts.

    Attributes:
        search: the whole.
        gradients: (scorer, ids, penalties, dream) -> (gradients, parents).
        plain: (scorer, None, candidates, first_edit, length) -> scores.
        suffix: the same with the parents.
        shape: of the model.
        prompt: the tokens of a prompt.
    """

    search: Search
    gradients: Program
    plain: Program
    suffix: Program
    shape: flops.Shape
    prompt: flops.Prompt

    @classmethod
    def of(
        cls, algorithm: Algorithm, shape: flops.Shape, prompt: flops.Prompt, key: jax.Array, steps: int
    ) -> tuple[Pieces, State]:
        """Compile them, and score the initial prompts."""
        search, state = Search.of(algorithm, key, steps)
        slots = jnp.zeros(algorithm.population, jnp.int32)
        asked = (algorithm.scorer, state.ids, algorithm.penalties, slots)
        gradients = compiled(_gradients, *asked)
        ids = jnp.repeat(state.ids, algorithm.children, axis=0)
        edits = np.zeros(len(ids), np.int32)
        candidates = _candidates(algorithm, ids, edits)
        parents = jax.eval_shape(_gradients, *asked)[1]
        plain = compiled(_evaluate, algorithm.scorer, None, *candidates)
        suffix = compiled(_evaluate, algorithm.scorer, parents, *candidates)
        return cls(search, gradients, plain, suffix, shape, prompt), state

    def measure(self, state: State, calls: Mapping[str, int]) -> tuple[State, dict[str, Sample]]:
        """One round: some iterations, then the parts of the first of them on the same prompts."""
        algorithm, shape, prompt = self.search.algorithm, self.shape, self.prompt
        members = np.asarray(state.ids)
        state, infos, whole = self.search.measure(state, calls[ITERATION])
        edits = edits_of(members, np.asarray(infos.ids), np.asarray(infos.selected))
        slots = jnp.zeros(algorithm.population, jnp.int32)
        asked = (algorithm.scorer, jnp.asarray(members), algorithm.penalties, slots)
        (_, parents), at_gradients = timed(lambda: self.gradients.run(*asked), calls[GRADIENTS])
        candidates = _candidates(algorithm, infos.ids[0], edits[0])
        _, at_plain = timed(lambda: self.plain.run(algorithm.scorer, None, *candidates), calls[PLAIN])
        _, at_suffix = timed(lambda: self.suffix.run(algorithm.scorer, parents, *candidates), calls[SUFFIX])
        every = prompt.after(edits.reshape(-1)) * (1 / self.search.steps)
        one = prompt.after(edits[0])
        return state, {
            PLAIN: Sample(at_plain, flops.forward(shape, prompt.whole() * len(edits[0]))),
            SUFFIX: Sample(at_suffix, flops.forward(shape, one)),
            GRADIENTS: Sample(at_gradients, flops.gradients(shape, prompt, len(members))),
            ITERATION: Sample(whole, flops.iteration(shape, prompt, len(members), every)),
        }

    def difference(self, state: State) -> Difference:
        """How far suffix-only evaluation is from plain evaluation: a speed means little if the numbers are others."""
        algorithm = self.search.algorithm
        slots = jnp.zeros(algorithm.population, jnp.int32)
        _, parents = self.gradients.run(algorithm.scorer, state.ids, algorithm.penalties, slots)
        # The parents themselves, each said to differ from some position on.
        count = algorithm.population * algorithm.children
        ids = jnp.repeat(state.ids, algorithm.children, axis=0)
        edits = np.arange(count, dtype=np.int32) % algorithm.length
        candidates = _candidates(algorithm, ids, edits)
        plain = self.plain.run(algorithm.scorer, None, *candidates)
        suffix = self.suffix.run(algorithm.scorer, parents, *candidates)
        return difference(plain, suffix)


def difference(ours: Any, theirs: Any) -> Difference:
    """How far scores of the same prompts are apart; both have `feature` and `cross_entropy`, [N]."""
    features, others = np.asarray(ours.feature), np.asarray(theirs.feature)
    scale = float(np.abs(features).max()) or 1.0
    apart = np.asarray(ours.cross_entropy) - np.asarray(theirs.cross_entropy)
    return Difference(float(np.abs(apart).max()), float(np.abs(features - others).max()) / scale)


def steps_for(operations: float, ceiling: Sample) -> int:
    """How many iterations one call to the device makes, given their operations: many where they are short."""
    seconds = operations * ceiling.seconds / (ceiling.operations or 1)
    return min(MOST_STEPS, max(1, round(LEAST_SECONDS / seconds)))


def edits_of(
    members: Int[np.ndarray, "P T"], children: Int[np.ndarray, "n C T"], selected: Int[np.ndarray, "n P"]
) -> Int32[np.ndarray, "n C"]:
    """The first position at which each child of some iterations differs from its parent; 0 where none does.

    Args:
        members: the population before the first iteration.
        children: of each iteration, slot by slot.
        selected: of each iteration, the new members' places among members and children.
    """
    found = []
    for ids, chosen in zip(children, selected, strict=True):
        parents = np.repeat(members, len(ids) // len(members), axis=0)
        found.append(np.argmax(ids != parents, axis=1))
        members = np.concatenate([members, ids])[chosen]
    return np.stack(found).astype(np.int32)


def _candidates(
    algorithm: Algorithm, ids: jax.Array, edits: Int32[np.ndarray, " C"]
) -> tuple[Candidates, jax.Array, jax.Array]:
    """Arguments of `evaluate`: candidates, slot by slot, their edits, and their lengths."""
    parent = jnp.repeat(jnp.arange(algorithm.population, dtype=jnp.int32), algorithm.children)
    candidates = Candidates(ids, parent, jnp.zeros_like(parent))
    return candidates, jnp.asarray(edits), jnp.full_like(parent, algorithm.length)


def _gradients(scorer: Any, ids: jax.Array, penalties: jax.Array, dream: jax.Array) -> Any:
    return scorer.gradients(ids, penalties, dream)


def _evaluate(scorer: Any, parents: Any, candidates: Candidates, edits: jax.Array, length: jax.Array) -> Any:
    return scorer.evaluate(parents, candidates, edits, length)
