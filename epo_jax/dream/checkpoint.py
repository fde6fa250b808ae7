"""Checkpoints of a search's state, by Orbax: each whole or not there.

Only the writer calls these functions, from one thread, with arrays of the host: what is written does not depend on
devices or meshes. Orbax is imported where it is first needed.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from epo_jax.dream.history_files import DamagedError
from epo_jax.errors import one_line
from epo_jax.parallel import processes
from epo_jax.whole_files import on_disk

_TOLD = "told"
_CHECKSUM = "checksum"
_REMOVED = ".removed"
# More bytes than a checkpoint takes on a disk beside its arrays.
ROOM = 2**20

HostState = Mapping[str, np.ndarray]


def save_checkpoint(folder: Path, iteration: int, state: HostState, told: Mapping[str, Any], keep: int) -> None:
    """Write the checkpoint of an iteration, and remove all but the newest ones.

    Args:
        folder: of checkpoints.
        iteration: its number; a checkpoint of it that is there already stays.
        state: arrays by name.
        told: what is kept beside them, as JSON holds it.
        keep: checkpoints that stay, at least 1.

    Raises:
        Exception: whatever Orbax raises where it cannot write.
        OSError: the disk is all but full.
    """
    from orbax.checkpoint import v1

    if shutil.disk_usage(folder).free < ROOM + sum(array.nbytes for array in state.values()):
        # Orbax would say so too, but not in one line.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    said = json.dumps({**told, _CHECKSUM: _checksum(state)}).encode()
    tree = {**state, _TOLD: np.frombuffer(said, np.uint8)}
    if iteration not in checkpoints(folder):
        with _by_the_writer_alone(), _one_error_alone():
            v1.save(_as_orbax_takes_it(folder / str(iteration)), tree)
        _settle(folder, folder / str(iteration))
    for older in checkpoints(folder)[:-keep]:
        remove_checkpoint(folder, older)


def checkpoints(folder: Path) -> list[int]:
    """The iterations of which there are checkpoints, ascending."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def load_checkpoint(folder: Path, iteration: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """State and what was told beside it.

    Raises:
        DamagedError: the checkpoint is not whole.
    """
    from orbax.checkpoint import v1

    path = folder / str(iteration)
    try:
        with _by_the_writer_alone(), _one_error_alone():
            state = {name: np.asarray(array) for name, array in v1.load(_as_orbax_takes_it(path)).items()}
        told = json.loads(state.pop(_TOLD).tobytes())
        if told.pop(_CHECKSUM) != _checksum(state):
            raise ValueError("its checksum is another")
    # Orbax and what it stands on raise all kinds of exceptions over files that are cut.
    except Exception as error:
        raise DamagedError(f"{path} is damaged ({one_line(error)})") from error
    return state, told


def remove_checkpoint(folder: Path, iteration: int) -> None:
    """Remove a checkpoint; half of one never stays under its name."""
    gone = folder / f"{iteration}{_REMOVED}"
    shutil.rmtree(gone, ignore_errors=True)
    (folder / str(iteration)).rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what saving and removing left half done when a process died."""
    for path in folder.iterdir():
        if path.is_dir() and path.name.partition(".")[0].isdigit() and not path.name.isdigit():
            shutil.rmtree(path, ignore_errors=True)


def _as_orbax_takes_it(path: Path) -> Path:
    # It refuses relative paths, such as those below the default of --output.
    return path.absolute()


def _settle(folder: Path, checkpoint: Path) -> None:
    # Orbax leaves names and its own small files to the system, which a machine that is switched off takes with it.
    for path in checkpoint.rglob("*"):
        on_disk(path)
    on_disk(checkpoint)
    on_disk(folder)


@contextlib.contextmanager
def _by_the_writer_alone() -> Iterator[None]:
    from orbax.checkpoint import v1

    context, here = v1.Context(), processes.index()
    context.multiprocessing.primary_host = here
    context.multiprocessing.active_processes = {here}
    context.multiprocessing.barrier_sync_key_prefix = "epo_jax"
    with context, _path_unchecked():
        yield


@contextlib.contextmanager
def _path_unchecked() -> Iterator[None]:
    # Orbax compares paths over the devices of all processes, whichever it was told are active: in the writer's
    # thread alone that would wait for ever. It has no switch for it.
    if processes.count() == 1:
        yield
        return
    from orbax.checkpoint.experimental.v1._src.saving import execution

    before = execution._check_directory_consistency
    execution._check_directory_consistency = lambda _: None
    try:
        yield
    finally:
        execution._check_directory_consistency = before


@contextlib.contextmanager
def _one_error_alone() -> Iterator[None]:
    # Orbax reads and writes arrays at once and raises the first one's error; its threads and asyncio would
    # print it and the others' beside that.
    logs = [logging.getLogger(name) for name in ("asyncio", "absl")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    except BaseException:
        # What asyncio says of errors that nobody asked for, it says when they are collected.
        gc.collect()
        raise
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _checksum(state: HostState) -> int:
    checksum = 0
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        checksum = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes(), checksum)
    return checksum
