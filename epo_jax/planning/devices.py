"""The devices that a plan is for: of a topology of TPUs that is not here, of this machine's CPU, or of its GPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Mapping, Sequence

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from epo_jax.dream.memory import SHARE_OF_ACCELERATOR, memory_limit
from epo_jax.errors import EpoError, one_line

LOCAL = ("cpu", "gpu")
_TPU = re.compile(r"[a-z0-9]+:\d+x\d+(x\d+)?")
_AVAILABLE = re.compile(r"available HBM \(([\d.]+)([KMGT]?)\)")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# More than any device has.
_TOO_MUCH = 2**50


@dataclasses.dataclass(frozen=True)
class Peaks:
    """The most that one device does, of what its maker publishes.

    Attributes:
        operations: floating-point operations per second in bfloat16.
        memory: bytes per second from its memory.
        links: bytes per second that it gets from other devices over all of its links together.
        source: where that is published.
    """

    operations: float
    memory: float
    links: float
    source: str


_TPU_PAGES = "the system architecture pages of cloud.google.com/tpu/docs"
# By JAX's `device_kind`; links in one direction, half of what is published for both.
PEAKS: Mapping[str, Peaks] = {
    "TPU v5 lite": Peaks(197e12, 819e9, 200e9, _TPU_PAGES),
    "TPU v5": Peaks(459e12, 2765e9, 600e9, _TPU_PAGES),
    "NVIDIA H100 80GB HBM3": Peaks(989e12, 3350e9, 450e9, "NVIDIA's data sheet of the H100 SXM"),
    "TPU v6 lite": Peaks(918e12, 1638e9, 400e9, _TPU_PAGES),
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices that a plan is for.

    Attributes:
        name: as it was asked for.
        devices: all of them.
        memory: bytes that a program may use on each; None where that is unknown.
    """

    name: str
    devices: tuple[jax.Device, ...]
    memory: float | None

    @property
    def kind(self) -> str:
        """The kind of device, as JAX names it."""
        return self.devices[0].device_kind

    @property
    def peaks(self) -> Peaks | None:
        """What a device does at most; None where that is not known here."""
        return PEAKS.get(self.kind)


def machine_of(topology: str) -> Machine:
    """The devices that a text names.

    Args:
        topology: "v5e:2x4" and its like for TPUs, which need not be here; "cpu" or "gpu" for those of this machine.

    Raises:
        EpoError: an unknown topology, or one that cannot be planned for here.
    """
    if topology in LOCAL:
        return _local(topology)
    if not _TPU.fullmatch(topology):
        raise EpoError(
            f"--topology={topology}: not a version of TPU and its arrangement, such as v5e:2x4 or v5p:2x2x1, nor one "
            f"of {', '.join(LOCAL)}"
        )
    devices = _tpus(topology)
    return Machine(topology, tuple(devices), SHARE_OF_ACCELERATOR * _memory(devices[0]))


def _local(platform: str) -> Machine:
    try:
        devices = jax.devices(platform)
    except RuntimeError as error:
        raise EpoError(f"--topology={platform}: JAX finds none here ({one_line(error)})") from error
    return Machine(platform, tuple(devices), memory_limit(devices, 0))


def _tpus(topology: str) -> Sequence[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise EpoError(
            f'--topology={topology}: needs the TPU compiler, libtpu; pip install "epo-jax[tpu]", which works without a '
            "TPU too"
        )
    size = [int(one) for one in topology.partition(":")[2].split("x")]
    # Of a host's four chips some are lent alone.
    alone = {"chips_per_host_bounds": (1, 1, 1)} if all(one == 1 for one in size) else {}
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology, **alone).devices)
    except jax.errors.JaxRuntimeError as error:
        raise EpoError(f"--topology={topology}: the TPU compiler does not know it ({one_line(error)})") from error


def _memory(device: jax.Device) -> float:
    """Bytes of memory for programs, which the compiler tells when it refuses one that is far too large."""
    huge = jax.ShapeDtypeStruct((_TOO_MUCH,), jax.numpy.int8, sharding=SingleDeviceSharding(device))
    try:
        jax.jit(lambda x: x + 1).lower(huge).compile()
    except jax.errors.JaxRuntimeError as error:
        found = _AVAILABLE.search(str(error))
        if found is None:
            raise
        return float(found[1]) * _UNITS[found[2]]
    raise EpoError(f"{device.device_kind}: its compiler does not tell how much memory it has")
