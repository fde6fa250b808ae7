"""How a decoder's parameters lie on a mesh: which dimension is shared over which axis, as a table.

Over `model` each device holds a part of every layer: columns of the projections into heads and neurons, rows of those
out of them, and a part of the vocabulary. Fully sharded, what a device holds is split over `data` too, and put together
again layer by layer while a search runs. What does not divide is padded with zeros or stays whole, and is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from epo_jax.parallel.mesh import DATA, MODEL

# (a parameter's path joined by dots, its shape) -> how it lies on devices.
Shardings = Callable[[str, tuple[int, ...]], NamedSharding]


@runtime_checkable
class Sizes(Protocol):
    """What is read of a decoder's configuration, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def vocab_size(self) -> int: ...

    @property
    def mlp_width(self) -> int: ...

    @property
    def kv_heads(self) -> int: ...

    @property
    def width(self) -> int: ...


Config = TypeVar("Config", bound=Sizes)


@dataclasses.dataclass(frozen=True)
class Rule:
    """Dimensions of a parameter, counted from the last, since stacks have that of their layers in front.

    Attributes:
        model: the one that lies over `model`.
        data: the one that lies over `data` too where parameters are fully sharded; None for small ones.
        heads: whether the first consists of heads, which stay whole.
    """

    model: int | None
    data: int | None = None
    heads: bool = False


_INTO_HEADS, _INTO_NEURONS = Rule(model=-1, data=-2, heads=True), Rule(model=-1, data=-2)
# By the end of a parameter's path; others, such as norms, lie whole on each device.
RULES: Mapping[str, Rule] = {
    "embedding.embedding": Rule(model=-2, data=-1),
    "positions.embedding": Rule(model=None, data=-1),
    "head.kernel": Rule(model=-1, data=-2),
    "head.bias": Rule(model=-1),
    **{f"attention.{name}.kernel": _INTO_HEADS for name in ("query", "key", "value")},
    **{f"attention.{name}.bias": Rule(model=-1, heads=True) for name in ("query", "key", "value")},
    "attention.output.kernel": Rule(model=-2, data=-1, heads=True),
    **{f"mlp.{name}.kernel": _INTO_NEURONS for name in ("gate", "up")},
    **{f"mlp.{name}.bias": Rule(model=-1) for name in ("gate", "up")},
    "mlp.down.kernel": Rule(model=-2, data=-1),
}


@dataclasses.dataclass(frozen=True)
class Layout(Generic[Config]):
    """How a decoder lies on a mesh.

    Attributes:
        config: the decoder's, with the sizes that its arrays have.
        data: devices along `data`.
        model: devices along `model`.
        fsdp: whether parameters lie over `data` too.
    """

    config: Config
    data: int
    model: int
    fsdp: bool

    @property
    def heads_divide(self) -> bool:
        """Whether attention is shared over `model`; otherwise it lies whole on each device."""
        return self.config.kv_heads % self.model == 0

    def spec(self, name: str, shape: tuple[int, ...]) -> PartitionSpec:
        """The axis that each dimension of a parameter lies over.

        Args:
            name: its path, joined by dots.
            shape: of the whole.
        """
        rule = rule_of(name)
        axes: list[str | None] = [None] * len(shape)
        shared = rule.model is not None and (self.heads_divide or not rule.heads)
        if self.model > 1 and shared and rule.model is not None and shape[rule.model] % self.model == 0:
            axes[rule.model] = MODEL
        if self.fsdp and self.data > 1 and rule.data is not None:
            # The other dimension, where that is free and this one does not divide.
            for dimension in (rule.data, rule.model):
                if dimension is not None and axes[dimension] is None and shape[dimension] % self.data == 0:
                    axes[dimension] = DATA
                    break
        while axes and axes[-1] is None:
            axes.pop()
        return PartitionSpec(*axes)

    def on(self, mesh: Mesh) -> Shardings:
        """How parameters lie on a mesh of these sizes."""
        return lambda name, shape: NamedSharding(mesh, self.spec(name, shape))

    def part(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what one device holds of a parameter."""
        sizes = {None: 1, MODEL: self.model, DATA: self.data}
        axes = [*self.spec(name, shape), *[None] * len(shape)]
        return tuple(size // sizes[axis] for size, axis in zip(shape, axes, strict=False))


def layout(config: Config, mesh: Mesh | AbstractMesh, fsdp: bool = False) -> Layout[Config]:
    """How a decoder lies on a mesh.

    Args:
        config: the decoder's.
        mesh: devices, or their numbers alone.
        fsdp: whether parameters lie over `data` too.
    """
    model = mesh.shape[MODEL]
    rows, neurons = _up(config.vocab_size, model), _up(config.mlp_width, model)
    padded = dataclasses.replace(
        config,
        vocab_rows=None if rows == config.vocab_size else rows,
        mlp_rows=None if neurons == config.mlp_width else neurons,
    )
    return Layout(padded, mesh.shape[DATA], model, fsdp)


def rule_of(name: str) -> Rule:
    """The rule of a parameter, given its path joined by dots."""
    for end, rule in RULES.items():
        if name == end or name.endswith(f".{end}"):
            return rule
    return Rule(model=None)


def describe(lies: Layout[Any]) -> str:
    """What is padded, and what is not shared, in one line; empty where weights lie whole on each device."""
    told = []
    config = lies.config
    if lies.model > 1:
        told.append(f"weights over model:{lies.model}")
        if not lies.heads_divide:
            told.append(f"attention whole on each device, since {config.kv_heads} KV heads do not divide")
        for what, size, padded in (
            ("vocabulary", config.vocab_size, _up(config.vocab_size, lies.model)),
            ("MLP width", config.mlp_width, _up(config.mlp_width, lies.model)),
        ):
            if padded != size:
                told.append(f"{what} padded from {size:,} to {padded:,}")
    if lies.fsdp and lies.data > 1:
        told.append(f"weights over data:{lies.data}, put together layer by layer")
        if config.width % lies.data:
            told.append(
                f"the width of {config.width:,} does not divide, so they are split along their other side or not"
            )
    return "; ".join(told)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
