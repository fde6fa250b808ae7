"""The start and the end of a job of several processes: who they are, and what each does when one of them fails."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import traceback
from collections.abc import Callable, Iterator, Mapping

import jax
from jax._src import xla_bridge

from epo_jax.errors import EpoError, one_line
from epo_jax.parallel import processes
from epo_jax.parallel.signs import FAULT, Ended
from epo_jax.parallel.stopping import noted_interrupts
from epo_jax.parallel.watch import Watch

# How long the first process and the others wait for each other at the start.
PATIENCE = 300  # seconds
# Our watch is faster; this is for a process whose watch cannot run.
JAX_HEARTBEAT = 50  # seconds
REFUSED, TERMINATED, INTERRUPTED = 2, 75, 130
_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process stands in its job; all is None where the environment tells it.

    Attributes:
        coordinator: host and port at which the first process listens, the same on every process.
        count: processes.
        index: the number of this one, from 0.
    """

    coordinator: str | None = None
    count: int | None = None
    index: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is half given or cannot be.

        Raises:
            EpoError: some of the three, or numbers and addresses that cannot be.
        """
        given = {"coordinator": self.coordinator, "process_count": self.count, "process_id": self.index}
        lacking = [f"--{name}" for name, value in given.items() if value is None]
        if lacking and len(lacking) < len(given):
            raise EpoError(
                f"--distributed: {' and '.join(lacking)} not given; give --coordinator, --process_count and "
                "--process_id, or none of them on a TPU VM or under SLURM, which tell them"
            )
        if self.coordinator is None or self.count is None or self.index is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise EpoError(f"--coordinator={self.coordinator}: not of the form HOST:PORT, such as 10.0.0.2:8476")
        if self.count < 1:
            raise EpoError(f"--process_count={self.count}: must be at least 1")
        if not 0 <= self.index < self.count:
            raise EpoError(f"--process_id={self.index}: must be 0 to {self.count - 1}, each on one process")

    @property
    def told_by(self) -> str:
        """Who says where this process stands."""
        if self.coordinator is not None:
            return "flags"
        return "SLURM" if all(name in os.environ for name in _SLURM) else "this machine's environment"


@contextlib.contextmanager
def joined(
    place: Place, program: str, command: Mapping[str, str], tell: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Be one of several processes for a while, before any JAX device was asked for.

    When one of them fails, or ends without a word, each ends within a minute with one line on stderr: with the code of
    whoever failed first, or with `signs.LOST`.

    Args:
        place: where this process stands.
        program: stands before lines on stderr.
        command: names and values of the settings that must be the same on every process.
        tell: is given a line that says how many processes there are, on the first one.

    Raises:
        EpoError: the processes do not find each other.
    """
    _start(place)
    watch = Watch(program)
    try:
        with noted_interrupts():
            _check_same(command)
            # On every process, since devices become known to all of them together.
            devices = jax.device_count()
            if processes.is_writer():
                tell(f"{processes.count()} processes with {devices} devices, as {place.told_by} said")
            yield
            processes.barrier("end")
    except SystemExit:
        # All of them end here alike, and it was said why.
        _finish(watch)
        raise
    except EpoError as error:
        watch.end(Ended(REFUSED, one_line(error, 2000)))
    except KeyboardInterrupt:
        watch.end(Ended(INTERRUPTED, "interrupted"))
    except Exception as error:
        watch.end(Ended(FAULT, f"{type(error).__name__}: {one_line(error)}"), traceback.format_exc().rstrip())
    except BaseException:
        # What a signal's handler raised.
        watch.end(Ended(TERMINATED, "terminated; the same command with --output and --resume goes on"))
    else:
        _finish(watch)


def _finish(watch: Watch) -> None:
    watch.stop()
    jax.distributed.shutdown()


def _start(place: Place) -> None:
    if xla_bridge.backends_are_initialized():
        raise RuntimeError("a device was asked for before the processes of the job found each other")
    # Its handler of SIGTERM would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.index,
            cluster_detection_method=None if place.coordinator is None else "deactivate",
            initialization_timeout=PATIENCE,
            heartbeat_timeout_seconds=JAX_HEARTBEAT,
            shutdown_timeout_seconds=JAX_HEARTBEAT,
        )
    except ValueError as error:
        if place.coordinator is not None:
            raise
        raise EpoError(
            f"--distributed: this machine does not say which process of how many this is ({one_line(error)}); give "
            "--coordinator, --process_count and --process_id"
        ) from error
    except (jax.errors.JaxRuntimeError, RuntimeError, OSError) as error:
        where = place.coordinator or "the coordinator"
        raise EpoError(
            f"--distributed: the processes did not find each other at {where} ({one_line(error)}); the first one must "
            f"be reachable there, and all must start within {PATIENCE} seconds"
        ) from error


def _check_same(command: Mapping[str, str]) -> None:
    told = processes.gathered(dict(command), "command")
    for number, other in enumerate(told):
        different = sorted(name for name in {*told[0], *other} if told[0].get(name) != other.get(name))
        if different:
            name = different[0]
            raise EpoError(
                f"--{name}: is {other.get(name)!r} on process {number} and {told[0].get(name)!r} on process 0; all "
                "processes run the same command"
            )
