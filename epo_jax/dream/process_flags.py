"""Flags of a job of several processes, for every command line that dreams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from absl import flags

from epo_jax.errors import EpoError
from epo_jax.parallel.startup import Place
from epo_jax.parallel.startup import joined as joined_as

DISTRIBUTED = flags.DEFINE_boolean(
    "distributed",
    False,
    "whether this is one of several processes that run the same command together; a TPU VM and SLURM tell which",
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "where the first of several processes listens, HOST:PORT")
PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "how many processes run the command together")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "which of them this is, from 0")
# What may differ between the processes of one job.
_OWN = ("process_id", "coordinator")


@contextlib.contextmanager
def joined(program: str) -> Iterator[None]:
    """Be one of several processes for a while, if the flags ask for it.

    Args:
        program: stands before lines on stderr.

    Raises:
        EpoError: flags that are half given, or processes that do not find each other.
    """
    given = {name: flags.FLAGS[name].value for name in ("coordinator", "process_count", "process_id")}
    if not DISTRIBUTED.value:
        for name, value in given.items():
            if value is not None:
                raise EpoError(f"--{name}={value}: is about a job of several processes; give --distributed as well")
        yield
        return
    place = Place(given["coordinator"], given["process_count"], given["process_id"])
    command = {name: str(flag.value) for name, flag in _shared().items()}
    with joined_as(place, program, command, tell=lambda line: print(line, flush=True)):
        yield


def _shared() -> dict[str, flags.Flag]:
    return {name: flags.FLAGS[name] for name in flags.FLAGS if flags.FLAGS[name].present and name not in _OWN}
