"""What is seen of the processes of one job, and what follows from it: whether the job is lost, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

# The exit code of a job that lost a process: all of it can be started again with --resume.
LOST = 69
# The exit code of an exception that nobody foresaw; it may be what a lost process does to the others.
FAULT = 1
BEAT = 2.0  # seconds between signs of life
# A process without a sign of life for so long is taken for dead. Whoever compiles or loads gives signs meanwhile.
SILENT = 30.0  # seconds
AGAIN = "start all processes again with the same command and --resume"


@dataclasses.dataclass(frozen=True)
class Ended:
    """Why a process ends before its time.

    Attributes:
        code: its exit code.
        said: what is told of it, in one line.
        gone: processes that ended without a word.
    """

    code: int
    said: str
    gone: tuple[int, ...] = ()


class Signs:
    """When each process last gave a sign of life, by this process's own clock."""

    def __init__(self, count: int, now: float):
        """Watch `count` processes from a time in seconds on."""
        self._count = count
        self._beats: dict[int, str] = {}
        self._seen = dict.fromkeys(range(count), now)
        self._fault_seen: float | None = None

    def verdict(self, beats: Mapping[int, str], ended: Mapping[int, Ended], now: float) -> Ended | None:
        """Why the whole job must end; None while it need not.

        Args:
            beats: each process's latest sign of life, no two of which are the same.
            ended: what those processes said that end before their time.
            now: the time, in seconds.
        """
        for number, beat in beats.items():
            if self._beats.get(number) != beat:
                self._beats[number], self._seen[number] = beat, now
        for _, last in sorted(ended.items()):
            if last.code != FAULT:
                return last
        silent = [number for number, seen in self._seen.items() if now - seen >= SILENT and number not in ended]
        if silent:
            return Ended(LOST, lost_line(silent, self._count), tuple(silent))
        if not ended:
            return None
        # Whether a fault is a lost process's doing shows when that one has been silent for long enough.
        self._fault_seen = now if self._fault_seen is None else self._fault_seen
        if len(ended) == self._count or now - self._fault_seen >= SILENT + 2 * BEAT:
            return ended[min(ended)]
        return None


def lost_line(gone: Sequence[int], count: int) -> str:
    """What is said of processes that ended without a word."""
    which = ", ".join(map(str, gone))
    have = f"process {which} of {count} has" if len(gone) == 1 else f"processes {which} of {count} have"
    return f"{have} ended without a word (killed, out of memory, or its machine is gone); {AGAIN}"
