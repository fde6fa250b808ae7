"""A run's folder while the run lasts: what is kept of it there, and what an earlier part of it left.

    checkpoints/run.json         what was asked for
    checkpoints/history/         what was scored, see `history_files`
    checkpoints/ITERATION/       the state after an iteration, by Orbax; it says how many files of history count

Of several processes only the writer looks at files; it tells the others what it found.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from epo_jax.dream.checkpoint import checkpoints, remove_checkpoint, remove_unfinished
from epo_jax.dream.folders import BEGUN, CHECKPOINTS, DONE, check_folder, prepare_folder
from epo_jax.dream.identity import identity
from epo_jax.dream.result import Result
from epo_jax.dream.resuming import HISTORY, RUN, Found, Kept, found
from epo_jax.dream.run import Run
from epo_jax.dream.run_lock import RunLock
from epo_jax.dream.saving import Saving
from epo_jax.errors import EpoError
from epo_jax.parallel import processes
from epo_jax.whole_files import on_disk, write_whole

# By default: seconds between checkpoints, and how many stay.
EVERY, KEEP = 60.0, 2


def check_keeping(output: str | Path | None, overwrite: bool, resume: bool, every: float, keep: int) -> None:
    """Check how a run is to be kept.

    Raises:
        EpoError: a number that cannot be used, or choices that exclude each other.
    """
    if resume and output is None:
        raise EpoError("--resume: goes on with the run of a folder; give it as --output")
    if resume and overwrite:
        raise EpoError(
            "--resume and --overwrite: one goes on with what the folder holds, the other replaces it; give one of them"
        )
    if isinstance(every, bool) or not 0 <= every < math.inf:
        raise EpoError(f"--checkpoint_every={every}: must be a finite number of seconds, at least 0")
    if isinstance(keep, bool) or keep < 1:
        raise EpoError(f"--keep_checkpoints={keep}: must be a whole number of at least 1")


class RunFolder:
    """The folder of one dream, or of the folders of several, while they run.

    Attributes:
        results: of the run, if it has ended already.
        kept: what an earlier part of it left; None where there is nothing.
        saving: its checkpoints.
    """

    def __init__(
        self,
        output: str | Path,
        folders: Sequence[Path],
        runs: Sequence[Run],
        *,
        resume: bool = False,
        overwrite: bool = False,
        every: float = EVERY,
        keep: int = KEEP,
    ):
        """Look at a folder, and take it if it holds something to go on with.

        Raises:
            EpoError: it holds another run or something else, another run is at work there, or it cannot be used.
        """
        self._output, self._folders, self._runs = Path(output).expanduser(), folders, runs
        self._here = self._output / CHECKPOINTS
        self._resume, self._overwrite = resume, overwrite
        self._lock: RunLock | None = None
        # From the beginning of the search until the results are written.
        self._under_way = False
        self.saving = Saving(self._here, every, keep)
        self.results: Sequence[Result] | None = None
        self.kept: Kept | None = None
        if resume:
            looked = self._look()
            self.results, self.kept = looked.results, looked.kept

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self._under_way:
                self._keep_for(error)
        finally:
            self.saving.close()
            if self._lock is not None:
                self._lock.release()

    def _keep_for(self, error: BaseException) -> None:
        """Save what there is when something broke the run off."""
        try:
            self.saving.save()
        except EpoError as failed:
            # Whoever only asks for an end is told that not all was saved; a failure of the run is told first.
            if not isinstance(error, Exception):
                raise
            error.add_note(str(failed))
        if not self.saving.files and processes.is_writer():
            # Nothing was kept that could be gone on with.
            self._clear()

    def begin(self, told: Mapping[str, Any], started: float) -> None:
        """Make the folder ready for the search, which begins now.

        Args:
            told: what checkpoints are to say beside the state.
            started: when this part of the run did, by `time.monotonic`.

        Raises:
            EpoError: the folder cannot be written, or another run is at work there.
        """
        processes.on_writer(self._begin, "begin")
        self.saving.begin(told, started, self.kept)
        self._under_way = True

    def finish(self, results: Sequence[Result], stopped: str, report: bool) -> None:
        """Write the results; what was kept for going on is removed once they are there, unless the run was stopped.

        Args:
            results: one for each dream.
            stopped: why the run ended early; empty if it did not.
            report: whether pictures and pages are written.

        Raises:
            EpoError: they cannot be written.
        """
        self.saving.wait()

        def write() -> None:
            for folder, result in zip(self._folders, results, strict=True):
                result.save(folder, overwrite=True, report=report)
            if not stopped:
                self._end()

        processes.on_writer(write, "finish")
        self._under_way = False

    def _look(self) -> Found:
        def look() -> Found:
            if self._here.is_dir():
                self._lock = RunLock(self._output)
            try:
                looked = found(self._output, self._folders, self._runs)
                # A process that died while it removed this had written its results.
                shutil.rmtree(self._output / DONE, ignore_errors=True)
            except BaseException:
                if self._lock is not None:
                    self._lock.release()
                raise
            return looked

        return processes.shared(look, "resume")

    def _begin(self) -> None:
        if self._lock is None:
            for folder in (self._output, *self._folders):
                # What the same run left may be written over.
                check_folder(folder, self._overwrite or self._resume)
            prepare_folder(self._output, overwrite=True)
            self._lock = RunLock(self._output)
            if self._here.is_dir() and not self._overwrite:
                raise EpoError(f"--output={self._output}: another run has just ended there; give another folder")
        try:
            for folder in self._folders:
                prepare_folder(folder, overwrite=True)
            if self.kept is None:
                self._clear()
                new = self._output / BEGUN
                (new / HISTORY).mkdir(parents=True)
                write_whole(new / RUN, json.dumps([identity(run) for run in self._runs], indent=1).encode())
                new.rename(self._here)
                on_disk(self._output)
            else:
                remove_unfinished(self._here)
                for iteration in checkpoints(self._here):
                    if iteration > self.kept.iteration:
                        remove_checkpoint(self._here, iteration)
        except OSError as error:
            raise EpoError(f"--output={self._output}: cannot be written ({error})") from error

    def _end(self) -> None:
        try:
            for folder in self._folders:
                for path in folder.iterdir():
                    if path.is_file():
                        on_disk(path)
                on_disk(folder)
            self._clear()
        except OSError as error:
            raise EpoError(f"--output={self._output}: cannot be written ({error})") from error

    def _clear(self) -> None:
        """Remove what is kept, which is there whole or not at all for whoever looks."""
        for name in (BEGUN, DONE):
            shutil.rmtree(self._output / name, ignore_errors=True)
        if self._here.is_dir():
            done = self._here.rename(self._output / DONE)
            shutil.rmtree(done, ignore_errors=True)
