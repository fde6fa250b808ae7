"""What a search has scored since its last checkpoint, and the thread that saves it.

A thread, so that neither the search nor a signal ever stands in the middle of a checkpoint.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from epo_jax.dream.checkpoint import remove_unfinished, save_checkpoint
from epo_jax.dream.history import Chunk
from epo_jax.dream.history_files import write_chunks
from epo_jax.dream.resuming import HISTORY, Kept
from epo_jax.errors import EpoError, one_line
from epo_jax.parallel import processes


class Saving:
    """Checkpoints of one search; of several processes all ask alike, and only the writer writes."""

    def __init__(self, folder: Path, every: float, keep: int):
        """Nothing is saved before `begin`.

        Args:
            folder: of checkpoints.
            every: seconds between them.
            keep: how many of the newest stay.
        """
        self._folder, self._every, self._keep = folder, every, keep
        self._worker: ThreadPoolExecutor | None = None
        self._under_way: tuple[Future[None], int] | None = None
        self._chunks: list[Chunk] = []
        # Chunks and files that are saved, and what is to be saved next: how many chunks with which state.
        self._written, self._files = 0, 0
        self._newest: tuple[int, Mapping[str, jax.Array]] = (0, {})
        self._began = self._saved_at = time.monotonic()
        self._before = 0.0
        self._told: Mapping[str, Any] = {}

    @property
    def seconds(self) -> float:
        """What the run has taken, its earlier parts included."""
        return self._before + time.monotonic() - self._began

    @property
    def files(self) -> int:
        """Files of history that checkpoints count."""
        return self._files

    def begin(self, told: Mapping[str, Any], started: float, kept: Kept | None) -> None:
        """Start the clock.

        Args:
            told: what checkpoints are to say beside the state.
            started: when this part of the run did, by `time.monotonic`.
            kept: what an earlier part left; None for nothing.
        """
        self._told = told
        self._began, self._saved_at = started, time.monotonic()
        if kept is not None:
            self._chunks, self._files = list(kept.chunks), kept.told["files"]
            self._written, self._before = len(self._chunks), kept.told["seconds"]

    def add(self, chunk: Chunk, state: Mapping[str, jax.Array]) -> None:
        """What was scored next, and the state after it, which nobody may give away."""
        self._chunks.append(chunk)
        # In one assignment, so that a signal finds both or neither.
        self._newest = (len(self._chunks), state)

    def save_if_due(self) -> None:
        """Begin to save if it is time and nothing is being saved.

        Raises:
            EpoError: what was begun before could not be written.
        """
        if self._under_way is not None and self._under_way[0].done():
            self.wait()
        if self._under_way is None and time.monotonic() - self._saved_at >= self._every:
            self._submit()

    def save(self) -> None:
        """Save now, and wait for it.

        Raises:
            EpoError: it could not be written.
        """
        self.wait()
        self._submit()
        self.wait()

    def wait(self) -> None:
        """Wait for what is being saved; a signal that breaks in leaves it to be waited for again.

        Raises:
            EpoError: it could not be written.
        """
        if self._under_way is None:
            return
        future, count = self._under_way
        try:
            future.result()
        # Orbax and what it stands on raise all kinds of exceptions where a disk is full.
        except Exception as error:
            self._under_way = None
            raise EpoError(
                f"--output={self._folder.parent}: a checkpoint could not be written ({_why(error)}); what was kept "
                "before stays, and --resume goes on from it"
            ) from error
        self._written, self._files, self._under_way = count, self._files + 1, None

    def close(self) -> None:
        """Let the thread end."""
        if self._worker is not None:
            self._worker.shutdown()

    def _submit(self) -> None:
        count, state = self._newest
        self._saved_at = time.monotonic()
        if count <= self._written or not processes.is_writer():
            return
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "checkpoints")
        told = {**self._told, "files": self._files + 1, "seconds": self.seconds}
        chunks = self._chunks[self._written : count]
        self._under_way = (self._worker.submit(self._write, chunks, state, told), count)

    def _write(self, chunks: Sequence[Chunk], state: Mapping[str, jax.Array], told: Mapping[str, Any]) -> None:
        # What a checkpoint counts is on the disk before the checkpoint is there.
        iteration = int(chunks[-1].iteration[-1])
        try:
            write_chunks(self._folder / HISTORY, told["files"] - 1, chunks)
            save_checkpoint(self._folder, iteration, jax.device_get(dict(state)), told, self._keep)
        except BaseException:
            # On a full disk what was begun would stand in the way of all that follows.
            remove_unfinished(self._folder)
            raise


def _why(error: Exception) -> str:
    # Orbax tells of a full disk at the end of a long account of what it was about to write.
    said = os.strerror(errno.ENOSPC)
    return said if said in str(error) else one_line(error)
