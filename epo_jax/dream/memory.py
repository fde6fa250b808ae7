"""How many rows evaluation runs as one block: as many as the compiled program says that the device has room for."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jaxtyping

from epo_jax.epo import Algorithm, State
from epo_jax.epo.sharing import Sharing
from epo_jax.errors import EpoError
from epo_jax.parallel.processes import gathered
from epo_jax.scoring.packing import Blocks, default_blocks
from epo_jax.scoring.scorer import LanguageModelScorer
from epo_jax.scoring.two_models import TwoModelScorer

# Allocators lose some of the memory between what they hold.
SHARE_OF_ACCELERATOR = 0.95


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a compiled program asks of each device, in bytes.

    Attributes:
        needed: arguments, results and temporaries together, each once.
        held: the arguments, which are on the device already.
    """

    needed: float
    held: float


def fitted(algorithm: Algorithm, state: State, capacity: int) -> Algorithm:
    """The algorithm with the largest blocks, from its own on downwards, whose program fits on its devices.

    Args:
        algorithm: a search over a language model.
        state: where `advance` will start.
        capacity: rows of infos that `advance` will be called with; the program compiled here is the one it runs.

    Raises:
        EpoError: not even the smallest blocks fit.
    """
    devices = jax.tree.leaves(state)[0].devices()
    return first_fitting(
        algorithm,
        lambda one: memory_of(one, state, capacity),
        lambda memory: _least(memory_limit(devices, memory.held)),
    )


def first_fitting(
    algorithm: Algorithm,
    needs: Callable[[Algorithm], Memory | None],
    limit_for: Callable[[Memory], float | None],
) -> Algorithm:
    """The algorithm with the largest blocks, from its own on downwards, that needs no more than there is.

    Args:
        algorithm: a search over a language model.
        needs: what its program asks of each device; None where that is unknown.
        limit_for: given that, the bytes that there are; None where that is unknown.

    Raises:
        EpoError: not even the smallest blocks fit.
    """
    while True:
        memory = needs(algorithm)
        limit = None if memory is None else limit_for(memory)
        if memory is None or limit is None or memory.needed <= limit:
            return algorithm
        smaller = halved(algorithm)
        if smaller is None:
            raise EpoError(
                f"--micro_batch={rows_of(algorithm)}: even blocks of so few rows need {_gib(memory.needed)}, and "
                f"{_gib(limit)} are available; lower --population, --length or the number of dreams, or take a "
                "smaller --dtype"
            )
        algorithm = smaller


def memory_of(algorithm: Algorithm, state: State, capacity: int) -> Memory | None:
    """Compile what `Algorithm.advance` runs, and read what it needs; None where the compiler does not tell."""
    traced = algorithm.trace_advance(state, capacity)
    with shapes_unchecked():
        lowered = traced.lower()
    try:
        return memory_needed(lowered.compile())
    except jax.errors.JaxRuntimeError as error:
        # A TPU's compiler refuses what does not fit, without a number.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Memory(math.inf, 0)


def memory_needed(compiled: jax.stages.Compiled) -> Memory | None:
    """What a compiled program asks of each device; None where its compiler does not tell."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    held = found.argument_size_in_bytes
    return Memory(held + found.output_size_in_bytes + found.temp_size_in_bytes - found.alias_size_in_bytes, held)


def _least(limit: float | None) -> float | None:
    """The least limit of all processes, so that they choose one size of blocks; None where one is unknown."""
    limits = gathered(limit, "memory")
    return None if None in limits else min(one for one in limits if one is not None)


def rows_of(algorithm: Algorithm) -> int:
    """Rows that evaluation runs as one block."""
    return scorer_of(algorithm).blocks.rows


def scorer_of(algorithm: Algorithm) -> LanguageModelScorer | TwoModelScorer:
    """A search's scorer, which must be a language model's."""
    if not isinstance(algorithm.scorer, (LanguageModelScorer, TwoModelScorer)):
        raise TypeError(f"blocks of rows belong to a language model's scorer, not to {type(algorithm.scorer).__name__}")
    return algorithm.scorer


def halved(algorithm: Algorithm) -> Algorithm | None:
    """The algorithm with blocks of half as many rows; None where they hold a single candidate already."""
    blocks = scorer_of(algorithm).blocks
    multiple = blocks.chunks[-1] if blocks.chunks else 8
    least = _up(_width(algorithm), multiple)
    if blocks.rows <= least:
        return None
    return with_rows(algorithm, max(least, _up(blocks.rows // 2, multiple)))


def with_rows(algorithm: Algorithm, rows: int) -> Algorithm:
    """The algorithm with blocks of so many rows, of which no chunk is larger than a block."""
    scorer = scorer_of(algorithm)
    blocks = Blocks(rows, tuple(size for size in scorer.blocks.chunks if size <= rows))
    return dataclasses.replace(algorithm, scorer=scorer.with_blocks(blocks))


def rows_alone(algorithm: Algorithm, micro_batch: int | None) -> int:
    """Rows of a block of one of the dreams run alone, where it takes no more than all of them together do.

    Args:
        algorithm: the search of all dreams.
        micro_batch: what was asked for; None for a choice.
    """
    shared = algorithm.sharing
    alone = Sharing(algorithm.population, algorithm.children, shared.devices)
    platform = next(iter(algorithm.penalties.devices())).platform
    suffix = scorer_of(algorithm).after
    candidates = alone.units * alone.children_per_part
    blocks = default_blocks(candidates, algorithm.length, suffix, platform, micro_batch)
    return blocks.rows if micro_batch is not None else min(blocks.rows, rows_of(algorithm))


def memory_limit(devices: Iterable[jax.Device], held: float) -> float | None:
    """Bytes that a program may use on each of some devices; None where that is unknown.

    Args:
        devices: those that it runs on; ones of a CPU share its memory.
        held: bytes of its arguments, which are on each device already.
    """
    here = [device for device in devices if device.process_index == jax.process_index()]
    if here[0].platform == "cpu":
        free = host_memory()
        return None if free is None else held + free / len(here)
    return accelerator_limit([device.memory_stats() for device in here])


def accelerator_limit(stats: Sequence[Mapping[str, Any] | None]) -> float | None:
    """Bytes that a program may use on each of some accelerators, given what they tell of themselves."""
    known = [one["bytes_limit"] for one in stats if one and "bytes_limit" in one]
    return SHARE_OF_ACCELERATOR * min(known) if known else None


def host_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may still take; None where that is unknown.

    Args:
        root: where the kernel's files are found.
    """
    found = [*_available(root / "proc/meminfo"), *_left_in_groups(root)]
    if found:
        return max(0, min(found))
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _available(meminfo: Path) -> list[int]:
    lines = _lines(meminfo)
    return [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]


def _left_in_groups(root: Path) -> list[int]:
    """What the control groups of this process leave, from its own up to the topmost, in both versions of them."""
    left = []
    mounts = root / "sys/fs/cgroup"
    files = {"": ("memory.max", "memory.current"), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, inside = line.split(":", 2)
        if controllers not in files:
            continue
        top = mounts / controllers
        group = top / inside.lstrip("/")
        for folder in (group, *group.parents):
            most, used = (_number(folder / name) for name in files[controllers])
            if most is not None and used is not None:
                # Pages of files that nobody has read lately are given up for whoever asks.
                left.append(most - used + _inactive(folder / "memory.stat"))
            if folder == top:
                break
    return left


def _inactive(path: Path) -> int:
    return sum(int(line.split()[1]) for line in _lines(path) if line.startswith("inactive_file "))


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


@contextlib.contextmanager
def shapes_unchecked() -> Iterator[None]:
    """Without the run-time checks of shapes that tests switch on.

    Lowering, and all that is planned without arrays, has descriptions in the arrays' places, which those would refuse.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def _width(algorithm: Algorithm) -> int:
    return algorithm.length + scorer_of(algorithm).after


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if math.isfinite(count) else "more than the device has"
