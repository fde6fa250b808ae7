"""What travels between devices, read from the text of a compiled program."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from jax.sharding import Mesh

Groups = tuple[tuple[int, ...], ...]
Loops = tuple[int | None, ...]

_BITS: Mapping[str, int] = {"pred": 8, "bf16": 16, "token": 0}
_KINDS = (
    *("all-gather", "all-reduce", "all-to-all", "reduce-scatter", "ragged-all-to-all", "collective-permute"),
    *("collective-broadcast", "send", "recv"),
)
_COLLECTIVE = re.compile(rf"= (\S.*?) ({'|'.join(_KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$")
_CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_WHILE = re.compile(r"condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_NAMED = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}")
_BOUND = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """An array that devices get from each other.

    Attributes:
        kind: "all-gather", "all-reduce", ...
        dtype: as the compiler names it, "f32".
        shape: of what one device gets.
        groups: numbers of the devices that exchange, group by group; of a permutation the pairs of sender and receiver.
            Empty where all devices are one group.
        loops: how often each loop around it runs, the outermost first; None where that is decided while it runs.
    """

    kind: str
    dtype: str
    shape: tuple[int, ...]
    groups: Groups
    loops: Loops

    @property
    def bytes(self) -> int:
        """Of what one device gets, each time."""
        return math.prod(self.shape) * _bits(self.dtype) // 8

    def times(self, unknown: int = 1, skip: int = 0) -> int:
        """How often it runs in one call of the program.

        Args:
            unknown: taken for loops whose number of trips is decided while they run.
            skip: outermost loops that count as one trip, such as the one over iterations.
        """
        return math.prod(unknown if trips is None else trips for trips in self.loops[skip:])

    def axes(self, mesh: Mesh) -> tuple[str, ...]:
        """The axes of a mesh along which devices of a group differ."""
        places = {
            int(device): place for place, device in np.ndenumerate(np.arange(mesh.size).reshape(mesh.devices.shape))
        }
        groups = self.groups or (tuple(range(mesh.size)),)
        varying = {
            axis
            for group in groups
            for one in group
            for axis, (a, b) in enumerate(zip(places[group[0]], places[one], strict=True))
            if a != b
        }
        return tuple(name for axis, name in enumerate(mesh.axis_names) if axis in varying)


def collectives(text: str) -> list[Collective]:
    """All arrays that collectives of a compiled program give, those that run in several places once for each.

    Args:
        text: the program, as `compiled.as_text()` gives it.

    Raises:
        ValueError: a program whose groups of devices are written in a way that is not known here.
    """
    bodies, entry = _computations(text)
    return list(_walk(bodies, entry, ()))


def bytes_of(found: Iterable[Collective], unknown: int = 1, skip: int = 0) -> dict[str, int]:
    """Bytes that one device gets in one call of the program, by kind; see `Collective.times`."""
    total: dict[str, int] = {}
    for one in found:
        total[one.kind] = total.get(one.kind, 0) + one.bytes * one.times(unknown, skip)
    return total


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    bodies: dict[str, list[str]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header and " = " not in line.split("{")[0]:
            current = header[2]
            bodies[current] = []
            entry = current if header[1] else entry
        elif current:
            bodies[current].append(line)
    if not entry:
        raise ValueError("the text of a compiled program has no ENTRY")
    return bodies, entry


def _walk(bodies: Mapping[str, list[str]], name: str, loops: Loops) -> Iterator[Collective]:
    for line in bodies[name]:
        match = _COLLECTIVE.search(line)
        if match:
            groups = _groups(line)
            for dtype, shape in _results(match[1], match[2], bool(match[3])):
                yield Collective(match[2], dtype, shape, groups, loops)
            continue
        loop = _WHILE.search(line) if " while(" in line else None
        if loop:
            inside = (*loops, _trips(bodies, line, loop[1]))
            for called in loop.groups():
                yield from _walk(bodies, called, inside)
            continue
        # What was started is told where it was.
        called_here = [] if re.search(r"-(?:done|update)\(", line) else _CALLED.findall(line)
        branches = _BRANCHES.search(line)
        if branches:
            called_here += [one.strip().removeprefix("%") for one in branches[1].split(",")]
        for called in called_here:
            yield from _walk(bodies, called, loops)


def _trips(bodies: Mapping[str, list[str]], line: str, condition: str) -> int | None:
    """How often a loop runs, where the program knows it."""
    annotated = _TRIPS.search(line)
    if annotated:
        return int(annotated[1])
    # A TPU's compiler writes it nowhere but into the condition, a comparison of the loop's number with a constant.
    lines = bodies[condition]
    bounds = [found[1] for found in map(_BOUND.search, lines) if found]
    compared = any("compare(" in one and "direction=LT" in one for one in _with_called(bodies, lines))
    return int(bounds[0]) if compared and len(bounds) == 1 else None


def _with_called(bodies: Mapping[str, list[str]], lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield line
        for called in _CALLED.findall(line):
            yield from bodies[called]


def _results(written: str, kind: str, started: bool) -> list[tuple[str, tuple[int, ...]]]:
    arrays = [
        (dtype, tuple(int(size) for size in shape.split(",") if size)) for dtype, shape in _ARRAY.findall(written)
    ]
    if not started or kind == "all-reduce":
        return arrays
    # What starts and is waited for later gives its operands too, and some kinds numbers of their own behind all.
    arrays = arrays if kind == "all-gather" else [array for array in arrays if array != ("u32", ())]
    return arrays[len(arrays) // 2 :]


def _groups(line: str) -> Groups:
    iota = _IOTA.search(line)
    if iota:
        devices = _counted(iota[3], iota[4])
        return tuple(tuple(group) for group in devices.reshape(int(iota[1]), int(iota[2])).tolist())
    named = _NAMED.search(line)
    if named:
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named[1])}
        over = [list(sizes).index(name) for name in re.findall(r"'([^']+)'", named[4])]
        devices = _counted(named[2] or str(math.prod(sizes.values())), named[3]).reshape(list(sizes.values()))
        count = math.prod(devices.shape[axis] for axis in over)
        together = np.moveaxis(devices, over, range(-len(over), 0)).reshape(-1, count)
        return tuple(tuple(group) for group in together.tolist())
    listed = _LISTED.search(line)
    if listed:
        groups = re.findall(r"\{([\d,]*)\}", listed[1])
        return tuple(tuple(int(one) for one in group.split(",")) for group in groups if group)
    if "replica_groups=" in line:
        raise ValueError(f"groups of devices in a form that is not known here: {line.strip()[:200]}")
    return ()


def _counted(sizes: str, axes: str | None) -> np.ndarray:
    """Numbers of devices counted over an array of these sizes, its axes in another order where one is given."""
    shape = [int(size) for size in sizes.split(",")]
    devices = np.arange(math.prod(shape)).reshape(shape)
    return devices.transpose([int(axis) for axis in axes.split(",")]) if axes else devices


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    # "f32", "s8", "f8e4m3fn": the first number is the size.
    found = re.match(r"[a-z]+(\d+)", dtype)
    if found is None:
        raise ValueError(f"an array of the unknown kind {dtype}")
    return int(found[1])
