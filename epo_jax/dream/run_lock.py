"""One run at a time in a folder: a lock that the kernel lets go of when the process that holds it dies."""

from __future__ import annotations

import datetime
import errno
import logging
import os
import socket
from pathlib import Path

from epo_jax.dream.folders import LOCK
from epo_jax.errors import EpoError

# What file systems answer that know no locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

_LOG = logging.getLogger(__name__)


class RunLock:
    """A lock on a run folder, held until `release`."""

    def __init__(self, folder: Path):
        """Take the lock of a folder, which must exist.

        Raises:
            EpoError: another run holds it, or the folder cannot be written.
        """
        self._path = folder / LOCK
        try:
            self._file = _locked(self._path)
        except BlockingIOError:
            raise EpoError(
                f"--output={folder}: another run is at work there ({_holder(self._path)}); wait for its end, or give "
                "another folder"
            ) from None
        except OSError as error:
            raise EpoError(f"--output={folder}: cannot be written ({error})") from error
        now = datetime.datetime.now().replace(microsecond=0)
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"process {os.getpid()} on {socket.gethostname()} since {now}".encode(), 0)
        except OSError as error:
            self.release()
            raise EpoError(f"--output={folder}: cannot be written ({error})") from error

    def release(self) -> None:
        """Let go of the folder, leaving no file in it."""
        # Before the lock is let go of: afterwards the file may be another run's.
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def is_held(folder: Path) -> bool:
    """Whether a run is at work in a folder, which need not exist; another process's, or one of this one."""
    path = folder / LOCK
    if not path.exists():
        return False
    try:
        os.close(_locked(path))
    except BlockingIOError:
        return True
    except OSError:
        # Whoever begins there is told what is wrong.
        return False
    return False


def _locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(file, path)
            # The last holder may have removed the file between the two: then this one is nobody's.
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, path: Path) -> None:
    try:
        # Not on Windows.
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        _LOG.warning("%s cannot be locked on this system; see that no other run writes there", path.parent)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _LOG.warning("%s cannot be locked (%s); see that no other run writes there", path.parent, error)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "it has just begun"
    except OSError:
        return "it has just ended"
