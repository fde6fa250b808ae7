"""Whether a device has room for a model's parameters."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jax.sharding import Sharding

from epo_jax.errors import EpoError


def check_room(
    start: str, parameters: Iterable[jax.ShapeDtypeStruct], lies: Sequence[Sharding | None] | None = None
) -> None:
    """Check that devices are large enough for parameters.

    Args:
        start: how a message begins that goes on with the number of parameters.
        parameters: their shapes and dtypes.
        lies: how each of them lies; None for the default device.

    Raises:
        EpoError: they are not.
    """
    arrays = list(parameters)
    where = list(lies or [None] * len(arrays))
    parts = [one.shape if lie is None else lie.shard_shape(one.shape) for one, lie in zip(arrays, where, strict=True)]
    needed = sum(math.prod(part) * one.dtype.itemsize for part, one in zip(parts, arrays, strict=True))
    named: set[Any] = {device for lie in where if lie is not None for device in lie.addressable_devices}
    devices = named or {jax.local_devices()[0]}
    rooms = [room for room in map(_room, devices) if room is not None]
    if not rooms:
        return
    # Devices of a CPU are one memory.
    room = min(rooms) // (len(devices) if any(device.platform == "cpu" for device in devices) else 1)
    if needed > room:
        each, what = ("the device has", "") if len(devices) == 1 else ("a device has", " on each")
        more = "" if len(devices) == 1 else ", and so does a longer axis model of --mesh, or --fsdp"
        raise EpoError(
            f"{start} {sum(math.prod(one.shape) for one in arrays):,} parameters take {needed / 2**30:,.1f} GiB{what}, "
            f"and {each} {room / 2**30:,.1f} GiB; a smaller --dtype takes less{more}"
        )


def _room(device: jax.Device) -> int | None:
    """Bytes of a device's memory; None if it does not tell."""
    room = (device.memory_stats() or {}).get("bytes_limit")
    if room is None and device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return room
