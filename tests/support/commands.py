"""Commands in processes of their own, which begin with what takes seconds to import: a fork of a process that has it.

The child has run nothing of JAX yet: it reads XLA_FLAGS and starts its backend itself, as a new interpreter would. What
libraries read from the environment while they are imported is the test's own; give such commands a new interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

import jax

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "epo_jax",
        "matplotlib.pyplot",
        "optax",
        "orbax.checkpoint.v1",
        "transformers.models.auto.configuration_auto",
        "transformers.models.llama.configuration_llama",
    ]
)


class Command:
    """A command that has begun; its parts are those of subprocess.Popen."""

    def __init__(self, command: Sequence[str | Path], devices: int | None = None, cwd: Path | None = None) -> None:
        self.args = [str(part) for part in command]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        if devices is not None:
            environment["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
        (out, told), (error, said) = (CONTEXT.Pipe(duplex=False) for _ in range(2))
        self._process = CONTEXT.Process(target=_main, args=(self.args, environment, cwd, told, said))
        self._process.start()
        told.close()
        said.close()
        self.stdout, self.stderr = (_text_of(end) for end in (out, error))

    @property
    def pid(self) -> int | None:
        """Its number."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, or the signal that ended it, below 0; None where it goes on."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it this."""
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What is left of its stdout and stderr, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        told = ["", ""]

        def read(number: int, file: TextIO) -> None:
            told[number] = file.read()

        readers = [threading.Thread(target=read, args=pair) for pair in enumerate((self.stdout, self.stderr))]
        for reader in readers:
            reader.start()
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired(self.args, timeout)
        for reader in readers:
            reader.join()
        return told[0], told[1]


def run(
    command: Sequence[str | Path], devices: int | None = None, cwd: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Exit code, stdout and stderr of a script and its arguments, or of "-m", a module and its arguments.

    Args:
        command: of these.
        devices: how many devices are pretended; None leaves it open.
        cwd: the folder where it is run.
        timeout: seconds.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    begun = Command(command, devices, cwd)
    told = begun.communicate(timeout)
    return subprocess.CompletedProcess(begun.args, begun.returncode, *told)


def _text_of(end: Connection) -> TextIO:
    with end:
        return os.fdopen(os.dup(end.fileno()), encoding="utf-8")


def _main(
    command: list[str], environment: dict[str, str], cwd: Path | None, out: Connection, error: Connection
) -> None:
    """What the child does; its exit code is that of a new interpreter."""
    with Path(os.devnull).open() as nothing:
        for number, file in enumerate((nothing, out, error)):
            os.dup2(file.fileno(), number)
    out.close()
    error.close()
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(environment)
    jax.config.update("jax_platforms", environment["JAX_PLATFORMS"])
    if cwd is not None:
        os.chdir(cwd)
    here = str(Path(__file__).parent)
    sys.path[:] = [place for place in sys.path if place != here]
    try:
        if command[0] == "-m":
            sys.argv[:] = command[1:]
            sys.path.insert(0, os.getcwd())
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = command
            sys.path.insert(0, str(Path(command[0]).resolve().parent))
            runpy.run_path(command[0], run_name="__main__")
    finally:
        # Processes of this kind end without what others do at their end.
        with contextlib.suppress(BrokenPipeError):
            atexit._run_exitfuncs()
