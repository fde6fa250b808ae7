"""Whether a device has room for a model's parameters."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable

import jax

from epo_jax.errors import EpoError


def check_room(start: str, parameters: Iterable[jax.ShapeDtypeStruct]) -> None:
    """Check that the default device is large enough for parameters.

    Args:
        start: how a message begins that goes on with the number of parameters.
        parameters: their shapes and dtypes.

    Raises:
        EpoError: it is not.
    """
    sizes = [(math.prod(one.shape), one.dtype.itemsize) for one in parameters]
    needed = sum(count * itemsize for count, itemsize in sizes)
    room = _room(jax.devices()[0])
    if room is not None and needed > room:
        raise EpoError(
            f"{start} {sum(count for count, _ in sizes):,} parameters take {needed / 2**30:,.1f} GiB, and the device "
            f"has {room / 2**30:,.1f} GiB; a smaller --dtype takes less"
        )


def _room(device: jax.Device) -> int | None:
    """Bytes of a device's memory; None if it does not tell."""
    room = (device.memory_stats() or {}).get("bytes_limit")
    if room is None and device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return room
