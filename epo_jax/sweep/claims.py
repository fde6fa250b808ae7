"""Who does which part of the work, among processes that share nothing but a folder.

A claim is a file that only one process can create: `000012.0` for batch 12. Its owner touches it now and then. Where
that has not happened for long, or the owner is known to have ended, another may create the claim of the next
generation, `000012.1`, and again only one can. The newest generation owns the batch, so nobody who looked too early
takes a claim away from who has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from epo_jax.errors import EpoError

SECONDS_PER_BEAT = 15.0
STALE_AFTER = 180.0  # seconds; above what network file systems remember of a file
_RELEASED = "released"
_PROC = Path("/proc")


class Claim:
    """A part of the work that is this process's; while it is entered, it is touched now and then."""

    def __init__(self, path: Path, next_path: Path, seconds_per_beat: float = SECONDS_PER_BEAT):
        """Own the file `path`, until there is `next_path`."""
        self.path = path
        self._next = next_path
        self._seconds = seconds_per_beat
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, name=f"claim {path.name}", daemon=True)
        self._gone = False

    @property
    def lost(self) -> bool:
        """Whether another process has taken the work over, which it does where this one seemed to have ended."""
        return self._gone or self._next.exists()

    def __enter__(self) -> Claim:
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._beats.join()

    def _beat(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                self._gone = True
                return
            except OSError:
                # A file system that is away for a moment: if it stays away, others take the work over.
                continue


class Claims:
    """The claims of one process in a folder that it shares with others."""

    def __init__(self, folder: Path, stale_after: float = STALE_AFTER, seconds_per_beat: float = SECONDS_PER_BEAT):
        """Look at and make claims in a folder; it is made if need be.

        Args:
            folder: holds nothing else.
            stale_after: seconds without a touch after which a claim's owner counts as ended.
            seconds_per_beat: seconds between touches of one's own.
        """
        self._folder = folder
        self._stale_after = stale_after
        self._seconds_per_beat = seconds_per_beat
        self._owner = {"process": uuid.uuid4().hex, "host": platform.node(), **_this_process()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EpoError(f"--output={folder.parent}: cannot be written ({error})") from error

    def take(self, name: str) -> Claim | None:
        """Claim a part of the work; None where it is another's.

        Raises:
            EpoError: the folder cannot be written.
        """
        generation = 0
        while self._path(name, generation).exists():
            generation += 1
        if generation and not self._is_free(self._path(name, generation - 1)):
            return None
        path = self._path(name, generation)
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(self._owner, file)
        except FileExistsError:
            return None
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise EpoError(f"--output={self._folder.parent}: cannot be written ({error})") from error
        return Claim(path, self._path(name, generation + 1), self._seconds_per_beat)

    def release(self, claim: Claim) -> None:
        """Give a claim back, so that others may take the work at once."""
        if claim.lost:
            return
        whole = self._folder / f".{self._owner['process']}"
        try:
            whole.write_text(json.dumps({**self._owner, _RELEASED: True}), encoding="utf-8")
            whole.replace(claim.path)
        except OSError as error:
            raise EpoError(f"--output={self._folder.parent}: cannot be written ({error})") from error

    def clear(self, name: str) -> None:
        """Take away all claims of work that is done; that it is must be seen elsewhere, by who claims it later."""
        generation = 0
        while (path := self._path(name, generation)).exists():
            path.unlink(missing_ok=True)
            generation += 1

    def _path(self, name: str, generation: int) -> Path:
        return self._folder / f"{name}.{generation}"

    def _is_free(self, path: Path) -> bool:
        try:
            touched = path.stat().st_mtime
            owner = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            # Cleared meanwhile: whoever claims it looks whether it is done.
            return True
        except ValueError:
            # Killed before it was written, or written at this moment.
            owner = {}
        if owner.get(_RELEASED):
            return True
        if owner.get("process") == self._owner["process"]:
            return False
        return _has_ended(owner, self._owner) or self._now() - touched > self._stale_after

    def _now(self) -> float:
        # Told by the file system that stamps the claims too, since the clocks of machines differ.
        clock = self._folder / f".clock-{self._owner['process']}"
        try:
            clock.touch()
            now = clock.stat().st_mtime
            clock.unlink()
        except OSError as error:
            raise EpoError(f"--output={self._folder.parent}: cannot be written ({error})") from error
        return now


def _this_process() -> dict[str, Any]:
    """What tells others that see the same processes whether this one has ended; nothing where that is unknown."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {
            "machine": f"{boot} {os.readlink(_PROC / 'self/ns/pid')}",
            "pid": os.getpid(),
            "began": _began(os.getpid()),
        }
    except OSError:
        return {}


def _has_ended(owner: dict[str, Any], here: dict[str, Any]) -> bool:
    if "machine" not in owner or owner["machine"] != here.get("machine"):
        return False
    try:
        return _began(owner["pid"]) != owner["began"]
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks, so that a number that was given out again is told apart."""
    stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    # The name, in parentheses, may hold anything. A process that has ended and was not waited for is a Z; as long as it
    # has threads, these have its files and locks.
    fields = stat.rpartition(")")[2].split()
    return "ended" if fields[0] in "ZX" and fields[17] in ("0", "1") else fields[19]
