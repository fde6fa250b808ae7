"""Meshes of devices from text such as "data:4,model:2"."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from epo_jax.errors import EpoError
from epo_jax.parallel.placing import placed

DATA, MODEL = "data", "model"
# Data is the outer axis, so that the devices that share a model's weights stand next to each other.
AXES = (DATA, MODEL)
AUTO = "auto"
# Of a device's memory, what weights may take: the rest is for what a search keeps beside them.
SHARE_OF_WEIGHTS = 0.7
_AXIS = re.compile(r"([A-Za-z_]+):(\d{1,9})")

Tree = TypeVar("Tree")
# A mesh -> bytes of weights on each of its devices.
WeightBytes = Callable[[AbstractMesh], int]


def make_mesh(text: str, devices: Sequence[jax.Device] | None = None, weights: WeightBytes | None = None) -> Mesh:
    """The mesh that a text names.

    Args:
        text: "data:4,model:2" is eight devices, of which four share slots and children, and two each the weights; an
            axis that is not named has one device. "auto" is all devices, which share the weights as far as their memory
            asks for it, and the work otherwise.
        devices: to choose from; by default all there are.
        weights: tells "auto" how large they are; by default they are taken to fit on one device.

    Raises:
        EpoError: a text of another form, an axis that does not exist, or more devices than there are.
    """
    devices = list(jax.devices() if devices is None else devices)
    data, model = _auto_sizes(devices, weights) if text == AUTO else _sizes(text)
    wanted = data * model
    if wanted > len(devices):
        raise EpoError(
            f"--mesh={text}: needs {wanted} devices, and there {'is' if len(devices) == 1 else 'are'} {len(devices)}"
        )
    processes = {device.process_index for device in devices}
    if processes != {device.process_index for device in devices[:wanted]}:
        raise EpoError(
            f"--mesh={text}: takes {wanted} of {len(devices)} devices, which leaves a process without any; all of the "
            f"{len(processes)} processes must take part"
        )
    placed = mesh_utils.create_device_mesh((data, model), devices[:wanted], allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto, AxisType.Auto))


def check_mesh(mesh: Mesh) -> None:
    """Check that a mesh has the axes that are shared over, and no others.

    Raises:
        EpoError: other axes, or axes that are not of the type Auto.
    """
    if mesh.axis_names != AXES:
        raise EpoError(f"--mesh={mesh_text(mesh)}: its axes must be {', '.join(AXES)}, as make_mesh gives them")
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise EpoError(f"--mesh={mesh_text(mesh)}: its axes must be of the type Auto, as make_mesh gives them")


def mesh_text(mesh: Mesh) -> str:
    """The text that names a mesh; axes of one device are left out where others have more."""
    several = {name: size for name, size in mesh.shape.items() if size > 1}
    return ",".join(f"{name}:{size}" for name, size in (several or dict([*mesh.shape.items()][:1])).items())


def replicated(tree: Tree, mesh: Mesh) -> Tree:
    """A pytree of arrays with a whole copy on each device of a mesh."""
    return placed(tree, NamedSharding(mesh, PartitionSpec()))


def shape_of_mesh(data: int, model: int) -> AbstractMesh:
    """A mesh without devices, for what depends on sizes alone."""
    return AbstractMesh((data, model), AXES, axis_types=(AxisType.Auto, AxisType.Auto))


def memory_of_device(device: jax.Device) -> int | None:
    """Bytes of memory that a device has for programs; None if it does not tell."""
    return (device.memory_stats() or {}).get("bytes_limit")


def _sizes(text: str) -> tuple[int, int]:
    sizes: dict[str, int] = {}
    for part in text.split(","):
        match = _AXIS.fullmatch(part.strip())
        if match is None:
            raise EpoError(
                f"--mesh={text}: not of the form data:8 or data:4,model:2, axes and their numbers of devices, nor "
                f"{AUTO}"
            )
        name, size = match[1], int(match[2])
        if name not in AXES:
            raise EpoError(f"--mesh={text}: there is no axis {name}, only {', '.join(AXES)}")
        if name in sizes:
            raise EpoError(f"--mesh={text}: names the axis {name} twice")
        if size < 1:
            raise EpoError(f"--mesh={text}: an axis has at least 1 device")
        sizes[name] = size
    return sizes.get(DATA, 1), sizes.get(MODEL, 1)


def _auto_sizes(devices: Sequence[jax.Device], weights: WeightBytes | None) -> tuple[int, int]:
    """All devices, with the smallest axis of the model whose share of the weights each has room for."""
    count = len(devices)
    # Devices of a CPU are one memory, which sharing does not spare.
    known = [memory_of_device(device) for device in devices if device.process_index == jax.process_index()]
    rooms = [room for room in known if room is not None]
    if devices[0].platform == "cpu" or weights is None or not rooms:
        return count, 1
    return sizes_with_room(count, weights, min(rooms))


def sizes_with_room(count: int, weights: WeightBytes, room: float) -> tuple[int, int]:
    """Sizes of the axes of a mesh of so many devices, the model's as small as their memory allows.

    Args:
        count: devices.
        weights: bytes of them on each device of a mesh.
        room: bytes of memory of a device.
    """
    for model in range(1, count):
        fits = count % model == 0 and weights(shape_of_mesh(count // model, model)) <= SHARE_OF_WEIGHTS * room
        if fits:
            return count // model, model
    return 1, count
