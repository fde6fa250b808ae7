"""Meshes of devices from text such as "data:8"."""

from __future__ import annotations

import re
from typing import TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from epo_jax.errors import EpoError

AXES = ("data",)
_AXIS = re.compile(r"([A-Za-z_]+):(\d{1,9})")

Tree = TypeVar("Tree")


def make_mesh(text: str) -> Mesh:
    """The mesh that a text names: "data:8" is eight devices that share slots and children.

    Raises:
        EpoError: a text of another form, an axis that does not exist, or more devices than there are.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        match = _AXIS.fullmatch(part.strip())
        if match is None:
            raise EpoError(f"--mesh={text}: not of the form data:8, an axis and its number of devices")
        name, size = match[1], int(match[2])
        if name not in AXES:
            raise EpoError(f"--mesh={text}: there is no axis {name}, only {', '.join(AXES)}")
        if name in sizes:
            raise EpoError(f"--mesh={text}: names the axis {name} twice")
        if size < 1:
            raise EpoError(f"--mesh={text}: an axis has at least 1 device")
        sizes[name] = size
    devices = jax.devices()
    wanted = sizes["data"]
    if wanted > len(devices):
        raise EpoError(
            f"--mesh={text}: needs {wanted} devices, and there {'is' if len(devices) == 1 else 'are'} {len(devices)}"
        )
    return jax.make_mesh((wanted,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:wanted])


def check_mesh(mesh: Mesh) -> None:
    """Check that a mesh has the axes that are shared over, and no others.

    Raises:
        EpoError: other axes, or axes that are not of the type Auto.
    """
    if mesh.axis_names != AXES:
        raise EpoError(f"--mesh={mesh_text(mesh)}: its axes must be {', '.join(AXES)}")
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise EpoError(f"--mesh={mesh_text(mesh)}: its axes must be of the type Auto, as make_mesh gives them")


def mesh_text(mesh: Mesh) -> str:
    """The text that names a mesh."""
    return ",".join(f"{name}:{size}" for name, size in mesh.shape.items())


def replicated(tree: Tree, mesh: Mesh) -> Tree:
    """A pytree of arrays with a whole copy on each device of a mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
