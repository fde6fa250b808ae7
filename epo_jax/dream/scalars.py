"""Numbers of a run, iteration by iteration, for TensorBoard and for Weights & Biases: callbacks of `dream`.

    with epo_jax.TensorBoard("logs") as board:
        epo_jax.dream(lm, "L10.N5", callback=board)

For each dream: `best` and `best_below_6_nats`, the greatest values of the feature so far; `objective/slot_3` and
`cross_entropy/slot_3` (nats/token) of the prompt that is best so far for the penalty of a slot, which is the frontier
where that penalty touches it; and `candidates_per_second` of all dreams together.
"""

from __future__ import annotations

import abc
import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float32

from epo_jax.dream.folders import writable_folder
from epo_jax.dream.progress import FLUENT_BELOW, Progress
from epo_jax.errors import EpoError, one_line
from epo_jax.parallel import processes

# Of all dreams together.
ALL = ""
FLUSH_SECONDS = 5


class _Scalars(abc.ABC):
    """A callback that hands on numbers; of several processes only the writer's does."""

    def __init__(self, names: Sequence[str] | None):
        self._names = None if names is None else list(names)
        self._best: list[_Best] = []

    def __call__(self, told: Progress) -> bool:
        """Hand on what was scored since the last call; never asks for a stop."""
        if processes.is_writer():
            for name, iteration, values in self._numbers(told):
                self._write(name, iteration, values)
        return False

    def __enter__(self) -> _Scalars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Nothing more will come."""

    @abc.abstractmethod
    def _write(self, name: str, iteration: int, values: Mapping[str, float]) -> None: ...

    def _numbers(self, told: Progress) -> Iterator[tuple[str, int, dict[str, float]]]:
        """Dream's name, iteration and values, iterations in ascending order."""
        count, slots = told.penalties.shape
        names = self._names or ([ALL] if count == 1 else [str(number) for number in range(count)])
        if not self._best:
            self._best = [_Best(slots) for _ in range(count)]
        iteration = 0
        for chunk in told.chunks:
            for row, iteration in enumerate(chunk.iteration.tolist()):
                for dream, (name, best) in enumerate(zip(names, self._best, strict=True)):
                    if not best.ended:
                        seen = chunk.finite[row, dream]
                        feature, nats = chunk.feature[row, dream][seen], chunk.cross_entropy[row, dream][seen]
                        best.take(feature, nats, told.penalties[dream])
                        # What a dream scores after something that is no number does not count.
                        best.ended = bool(chunk.broken[row, dream])
                        yield name, iteration, best.values()
        if math.isfinite(told.candidates_per_second):
            yield ALL, iteration, {"candidates_per_second": told.candidates_per_second}


class _Best:
    """What is best in a dream so far."""

    def __init__(self, slots: int):
        self.ended = False
        self._feature, self._fluent = -math.inf, -math.inf
        self._objective = np.full(slots, -math.inf)
        self._cross_entropy = np.full(slots, math.nan)

    def take(
        self,
        feature: Float32[np.ndarray, " n"],
        cross_entropy: Float32[np.ndarray, " n"],
        penalties: Float32[np.ndarray, " P"],
    ) -> None:
        """See more prompts."""
        if not len(feature):
            return
        self._feature = max(self._feature, float(feature.max()))
        self._fluent = max(self._fluent, float(feature[cross_entropy < FLUENT_BELOW].max(initial=-math.inf)))
        objective = feature[:, None] - penalties * cross_entropy[:, None]
        row, slot = objective.argmax(axis=0), np.arange(len(penalties))
        better = objective[row, slot] > self._objective
        self._objective = np.where(better, objective[row, slot], self._objective)
        self._cross_entropy = np.where(better, cross_entropy[row], self._cross_entropy)

    def values(self) -> dict[str, float]:
        """Those that are known, by their names."""
        found = {"best": self._feature, f"best_below_{FLUENT_BELOW:g}_nats": self._fluent}
        for slot, (objective, nats) in enumerate(zip(self._objective, self._cross_entropy, strict=True)):
            found |= {f"objective/slot_{slot}": float(objective), f"cross_entropy/slot_{slot}": float(nats)}
        return {name: value for name, value in found.items() if math.isfinite(value)}


class TensorBoard(_Scalars):
    """Writes the numbers of a run as TensorBoard's event files, of several dreams in a folder for each."""

    def __init__(self, folder: str | Path, names: Sequence[str] | None = None):
        """Make the folder ready.

        Args:
            folder: TensorBoard's --logdir.
            names: of several dreams, their folders; by default their numbers.

        Raises:
            EpoError: tensorboardX is not installed, or the folder cannot be written.
        """
        super().__init__(names)
        self._module = _imported("tensorboardX", "tensorboard")
        self._folder = writable_folder(folder, "tensorboard") if processes.is_writer() else Path(folder)
        self._writers: dict[str, Any] = {}

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write(self, name: str, iteration: int, values: Mapping[str, float]) -> None:
        if name not in self._writers:
            self._writers[name] = self._module.SummaryWriter(str(self._folder / name), flush_secs=FLUSH_SECONDS)
        for tag, value in values.items():
            self._writers[name].add_scalar(tag, value, iteration)


class WeightsAndBiases(_Scalars):
    """Logs the numbers of a run to Weights & Biases, of several dreams under the name of each."""

    def __init__(self, project: str, names: Sequence[str] | None = None, config: Mapping[str, Any] | None = None):
        """Begin a run there.

        Args:
            project: its name.
            names: of several dreams, what stands before the names of their numbers; by default those of the dreams.
            config: what is told of the run, such as the settings of the search.

        Raises:
            EpoError: wandb is not installed, or cannot begin.
        """
        super().__init__(names)
        module = _imported("wandb", "wandb")
        self._run: Any = None
        if processes.is_writer():
            try:
                self._run = module.init(project=project, config=dict(config or {}))
            except module.Error as error:
                raise EpoError(f"--wandb={project}: cannot begin a run ({one_line(error)})") from error

    def close(self) -> None:
        """End the run there."""
        if self._run is not None:
            self._run.finish()
            self._run = None

    def _write(self, name: str, iteration: int, values: Mapping[str, float]) -> None:
        prefix = f"{name}/" if name else ""
        self._run.log({f"{prefix}{tag}": value for tag, value in values.items()}, step=iteration)


def _imported(package: str, flag: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise EpoError(f"--{flag}: needs the package {package}; pip install {package}") from error
