"""What a folder holds of a run that was asked for before: its results, or something to go on with."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epo_jax.dream.checkpoint import checkpoints, load_checkpoint
from epo_jax.dream.folders import CHECKPOINTS, CONFIG, check_folder
from epo_jax.dream.history import Chunk
from epo_jax.dream.history_files import DamagedError, read_chunks
from epo_jax.dream.identity import differences, identity
from epo_jax.dream.result import Result, load_result
from epo_jax.dream.run import Run
from epo_jax.errors import EpoError, one_line

HISTORY, RUN = "history", "run.json"

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Kept:
    """What an earlier part of a run left.

    Attributes:
        iteration: the last one.
        state: of the search after it, arrays by name.
        told: what the checkpoint says beside it.
        chunks: all that was scored until then.
    """

    iteration: int
    state: Mapping[str, np.ndarray]
    told: Mapping[str, Any]
    chunks: Sequence[Chunk]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        results: of the run, one for each dream; None if it has not ended.
        kept: what there is to go on with; None if there is nothing.
    """

    results: Sequence[Result] | None = None
    kept: Kept | None = None


def found(output: Path, folders: Sequence[Path], runs: Sequence[Run]) -> Found:
    """Look for a run.

    Args:
        output: its folder.
        folders: of its dreams, which may be the same one.
        runs: what is asked for, one for each dream.

    Raises:
        EpoError: the folder holds another run, or something else.
    """
    here = output / CHECKPOINTS
    if here.is_dir():
        _check_same(output, _begun(here / RUN), runs)
        return Found(kept=_newest_whole(here))
    if not any((folder / CONFIG).exists() for folder in folders):
        for folder in (output, *folders):
            check_folder(folder)
        return Found()
    results = [load_result(folder) for folder in folders]
    _check_same(output, [identity(result.run) for result in results], runs)
    return Found(results) if all(map(_has_ended, results)) else Found()


def _check_same(output: Path, old: Sequence[Mapping[str, Any]], runs: Sequence[Run]) -> None:
    # As JSON gives it back, so that nothing differs by its type.
    new = json.loads(json.dumps([identity(run) for run in runs]))
    told = differences(json.loads(json.dumps(old)), new)
    if told:
        raise EpoError(
            f"--resume: {output} holds another run: {told}; give what it was started with, or another --output"
        )


def _begun(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        asked: Sequence[Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EpoError(
            f"{path}: does not say which run it is ({one_line(error)}); --overwrite instead of --resume starts anew"
        ) from error
    return asked


def _newest_whole(here: Path) -> Kept | None:
    there = checkpoints(here)
    for iteration in reversed(there):
        try:
            state, told = load_checkpoint(here, iteration)
            chunks = read_chunks(here / HISTORY, told["files"])
            if not chunks or chunks[-1].iteration[-1] != iteration:
                raise DamagedError(f"{here / HISTORY} does not hold the {iteration} iterations of its checkpoint")
        except DamagedError as error:
            _LOG.warning("%s; an older checkpoint is looked for", error)
            continue
        return Kept(iteration, state, told, chunks)
    if there:
        _LOG.warning("%s holds no whole checkpoint; the run starts anew", here)
    return None


def _has_ended(result: Result) -> bool:
    """Whether a run came to its end, be it one that is no number, and was not merely stopped."""
    history = result.history
    broken = not (np.isfinite(history.feature) & np.isfinite(history.cross_entropy)).all()
    return bool(broken or (len(history) and history.iteration[-1] == result.run.search.iterations))
