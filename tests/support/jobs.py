"""Jobs of several processes on this machine."""

from __future__ import annotations

import socket

from commands import Command


def started(count: int, command: list[str], devices: int = 1) -> list[Command]:
    """Processes of one job on this machine, each with some devices that are pretended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--distributed", f"--coordinator=127.0.0.1:{port}", f"--process_count={count}"]
    return [Command([*command, *place, f"--process_id={number}"], devices) for number in range(count)]


def ends(running: list[Command], seconds: float) -> list[tuple[int | None, str, str]]:
    """Exit code, stdout and stderr of each process."""
    try:
        told = [process.communicate(timeout=seconds) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, out, error) for process, (out, error) in zip(running, told, strict=True)]
