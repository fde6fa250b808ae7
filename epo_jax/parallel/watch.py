"""A thread that ends a process in time and with a clear line when another process of the same job is gone.

Devices wait for each other without end, so a job that lost a process cannot go on. JAX notices too, but later, and says
so by a dump of its own machinery.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

import jax

from epo_jax.parallel import processes
from epo_jax.parallel.signs import AGAIN, BEAT, LOST, Ended, Signs, lost_line

# How long a process that ends waits for the others to take notice.
FAREWELL = 8.0  # seconds
_ALIVE, _ENDED = "epo_jax/alive", "epo_jax/ended"
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)


class Watch:
    """Gives signs of life of this process, and looks for those of the others."""

    def __init__(self, program: str):
        """Start watching; `program` stands before what is said."""
        self._program = program
        self._client, self._number = processes.service(), processes.index()
        self._count = processes.count()
        self._signs = Signs(self._count, time.monotonic())
        self._own: Ended | None = None
        self._details = ""
        self._code = LOST
        self._stopped, self._awake = threading.Event(), threading.Event()
        self._ending = threading.Lock()
        # JAX aborts a process when the first one, which all are connected to, is gone. The handler is kept, since C
        # would call it even if Python had let go of it.
        self._on_abort = _HANDLER(self._aborted)
        _handle_abort(self._on_abort)
        self._thread = threading.Thread(target=self._run, name="epo_jax watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, when all processes have come to the end."""
        self._stopped.set()
        self._awake.set()
        self._thread.join()
        _handle_abort(None)

    def end(self, ended: Ended, details: str = "") -> NoReturn:
        """End this process and with it the job; of a fault it is first waited for whether a lost process caused it.

        Args:
            ended: why.
            details: what is printed instead if the cause is this process's own, such as a traceback.
        """
        self._own, self._details = ended, details
        self._awake.set()
        # The thread ends the process.
        self._thread.join()
        raise AssertionError("the watch ended without ending the process")

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._awake.clear()
            try:
                verdict = self._look()
            except jax.errors.JaxRuntimeError:
                verdict = Ended(LOST, lost_line([processes.WRITER], self._count), (processes.WRITER,))
            if verdict is not None and not self._stopped.is_set():
                self._exit(verdict)
            self._awake.wait(BEAT)

    def _look(self) -> Ended | None:
        self._client.key_value_set(f"{_ALIVE}/{self._number}", str(time.monotonic_ns()), allow_overwrite=True)
        if self._own is not None:
            self._tell(self._own)
        beats = {_number(key): beat for key, beat in self._client.key_value_dir_get(f"{_ALIVE}/")}
        return self._signs.verdict(beats, self._told(), time.monotonic())

    def _tell(self, ended: Ended) -> None:
        told = json.dumps(dataclasses.asdict(ended))
        self._client.key_value_set(f"{_ENDED}/{self._number}", told, allow_overwrite=True)

    def _told(self) -> dict[int, Ended]:
        found = {_number(key): json.loads(told) for key, told in self._client.key_value_dir_get(f"{_ENDED}/")}
        return {number: Ended(told["code"], told["said"], tuple(told["gone"])) for number, told in found.items()}

    def _exit(self, verdict: Ended) -> NoReturn:
        if not self._ending.acquire(blocking=False):
            # The abort handler was first, and ends the process.
            time.sleep(FAREWELL)
        self._code = verdict.code
        told: dict[int, Ended] = {}
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            if self._own is None:
                self._tell(verdict)
            told = self._all_told(verdict)
            if self._number == processes.WRITER:
                # The service ends with this process: each of the others must have looked once more before.
                time.sleep(1.5 * BEAT)
        writer = told.get(processes.WRITER)
        if verdict.code == LOST:
            self._say(f"{self._program}: {verdict.said}")
        elif self._details:
            self._say(self._details)
        elif self._own is not None and (self._number == processes.WRITER or writer != self._own):
            self._say(f"{self._program}: {self._whose(self._number)}{self._own.said}")
        elif self._number == processes.WRITER:
            whose = next((number for number, ended in sorted(told.items()) if ended == verdict and number), 0)
            self._say(f"{self._program}: {self._whose(whose)}{verdict.said}")
        _leave(verdict.code)

    def _all_told(self, verdict: Ended) -> dict[int, Ended]:
        """What all say that still can, or those who could until now: the service ends with the first process."""
        until = time.monotonic() + FAREWELL
        while True:
            told = self._told()
            enough = self._count - len(verdict.gone) if self._number == processes.WRITER else 1
            known = told if self._number == processes.WRITER else told.keys() & {processes.WRITER}
            if len(known) >= enough or processes.WRITER in verdict.gone or time.monotonic() > until:
                return told
            time.sleep(BEAT / 10)

    def _whose(self, number: int) -> str:
        return "error: " if number == processes.WRITER else f"process {number} of {self._count}: error: "

    def _aborted(self, _: int) -> None:
        if self._ending.acquire(blocking=False):
            self._say(
                f"{self._program}: process {self._number} of {self._count} was ended by JAX, most likely since process "
                f"{processes.WRITER}, which all need, has ended or cannot be reached; {AGAIN}"
            )
            _leave(LOST)
        # The thread was first, and needs a moment to say why.
        time.sleep(BEAT / 4)
        _leave(self._code)

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            # A progress bar may have hidden the cursor.
            start = "\x1b[?25h\n" if sys.stderr.isatty() else ""
            print(f"{start}{text}", file=sys.stderr, flush=True)


def _leave(code: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    # Whatever other threads wait for, and without JAX's own farewell, which waits for processes that are gone.
    os._exit(code)


def _handle_abort(handler: Any) -> None:
    """Have C call a handler when this process is aborted, since Python's own handlers run too late; None for none."""
    if os.name == "posix":
        c = ctypes.CDLL(None)
        c.signal.argtypes, c.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
        c.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p) if handler is not None else None)


def _number(key: str) -> int:
    return int(key.rsplit("/", 1)[1])
