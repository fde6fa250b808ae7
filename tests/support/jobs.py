"""Jobs of several processes on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys


def started(count: int, command: list[str], devices: int = 1) -> list[subprocess.Popen]:
    """Processes of one job on this machine, each with some devices that are pretended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    place = ["--distributed", f"--coordinator=127.0.0.1:{port}", f"--process_count={count}"]
    return [
        subprocess.Popen(
            [sys.executable, *command, *place, f"--process_id={number}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def ends(running: list[subprocess.Popen], seconds: float) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each process."""
    try:
        told = [process.communicate(timeout=seconds) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, out, error) for process, (out, error) in zip(running, told, strict=True)]
