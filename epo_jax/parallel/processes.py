"""What several processes that run one program tell each other, beside the arrays that lie on their devices.

It goes through JAX's coordination service, from host to host: no program runs on a device, so nothing waits for one
that is under way. All processes must call these functions in one order, from their main threads. In one process they
are trivial. JAX has no public name for the service's client, only for starting it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax._src import distributed

from epo_jax.errors import EpoError, one_line

WRITER = 0
# Only a last resort: a process that dies is noticed long before (see `watch`).
LONGEST_WAIT = 24 * 3600.0  # seconds
# What one message of the service may well hold.
PIECE = 2**20  # bytes

_PLACE = "epo_jax/exchange"
# Every second exchange takes the same room: nobody comes to the next but one before all have read this one.
_exchanges = 0

Value = TypeVar("Value")


class ProcessError(RuntimeError):
    """Processes that do not go the same way, or one that has ended."""


def count() -> int:
    """Processes that run the program; asking starts no backend."""
    return int(distributed.global_state.num_processes)


def index() -> int:
    """The number of this process, from 0."""
    return int(distributed.global_state.process_id)


def is_writer() -> bool:
    """Whether this is the process that writes files and prints: the first one."""
    return index() == WRITER


def barrier(name: str) -> None:
    """Wait until all processes have come here.

    Args:
        name: says where; the same on every process.

    Raises:
        ProcessError: another process is elsewhere, or has ended.
    """
    _exchanged(name, b"")


def gathered(value: Value, name: str = "gathered") -> list[Value]:
    """Each process's value, in the order of processes.

    Args:
        value: what JSON can hold (tuples become lists); floats come through exactly.
        name: says where; the same on every process.

    Raises:
        ProcessError: another process is elsewhere, or has ended.
    """
    if count() == 1:
        return [value]
    return [json.loads(told) for told in _exchanged(name, json.dumps(value).encode())]


def agreed(value: Value, name: str = "agreed") -> Value:
    """The writer's value, on every process; what is given elsewhere is not looked at.

    Args:
        value: what JSON can hold (tuples become lists); floats come through exactly.
        name: says where; the same on every process.

    Raises:
        ProcessError: another process is elsewhere, or has ended.
    """
    if count() == 1:
        return value
    told: Value = json.loads(agreed_bytes(json.dumps(value).encode() if is_writer() else b"", name))
    return told


def agreed_bytes(value: bytes, name: str = "agreed_bytes") -> bytes:
    """The writer's bytes, on every process, such as a file that others cannot read.

    Args:
        value: of any length; what is given elsewhere than at the writer is not looked at.
        name: says where; the same on every process.

    Raises:
        ProcessError: another process is elsewhere, or has ended.
    """
    if count() == 1:
        return value
    whole, rest = b"", value
    while True:
        # A byte in front says whether more is to come.
        piece, rest = rest[:PIECE], rest[PIECE:]
        told = _exchanged(name, (b"+" if rest else b".") + piece if is_writer() else b"")[WRITER]
        whole += told[1:]
        if told[:1] == b".":
            return whole


def on_writer(function: Callable[[], Value], name: str = "on_writer") -> Value:
    """Call a function on the writer alone, such as a look at files; its value on every process.

    Args:
        function: gives what JSON can hold; an EpoError of it is raised on every process.
        name: says where; the same on every process.

    Raises:
        EpoError: what the function raised.
        ProcessError: another process is elsewhere, or has ended.
    """
    if count() == 1:
        return function()
    told: dict[str, Any] = {}
    if is_writer():
        try:
            told = {"value": function()}
        except EpoError as error:
            agreed({"refused": str(error)}, name)
            raise
    told = agreed(told, name)
    if "refused" in told:
        raise EpoError(told["refused"])
    value: Value = told["value"]
    return value


def shared(function: Callable[[], Value], name: str = "shared") -> Value:
    """Call a function on the writer alone, such as one that reads files; its value on every process.

    Args:
        function: gives what can be pickled; an EpoError of it is raised on every process.
        name: says where; the same on every process.

    Raises:
        EpoError: what the function raised.
        ProcessError: another process is elsewhere, or has ended.
    """
    if count() == 1:
        return function()
    found: list[Value] = []
    on_writer(lambda: found.append(function()), name)
    told: Value = pickle.loads(agreed_bytes(pickle.dumps(found[0]) if found else b"", name))
    return told


def service() -> Any:
    """JAX's client of the job's coordination service.

    Raises:
        ProcessError: this process is not one of several.
    """
    client = distributed.global_state.client
    if client is None:
        raise ProcessError("the coordination service of the job is gone; this is a fault of epo_jax")
    return client


def _exchanged(name: str, value: bytes) -> list[bytes]:
    """The bytes that each process brings to an exchange."""
    global _exchanges
    processes = count()
    if processes == 1:
        return [value]
    client, room = service(), f"{_PLACE}/{_exchanges % 2}"
    _exchanges += 1
    here = name.encode()
    try:
        client.key_value_set_bytes(f"{room}/{index()}", here + b"\n" + value, allow_overwrite=True)
        client.wait_at_barrier(_PLACE, int(1000 * LONGEST_WAIT))
        found = dict(client.key_value_dir_get_bytes(f"{room}/"))
    except jax.errors.JaxRuntimeError as error:
        raise ProcessError(f"at {name}: another process has ended or cannot be reached ({one_line(error)})") from error
    told = [found[f"{room}/{number}"].split(b"\n", 1) for number in range(processes)]
    places = [place.decode() for place, _ in told]
    if set(places) != {name}:
        raise ProcessError(
            f"the processes are not at one place, but at {', '.join(places)}; this is a fault of epo_jax"
        )
    return [brought for _, brought in told]
