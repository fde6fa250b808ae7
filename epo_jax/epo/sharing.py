"""Which device makes and scores which children.

The slots of all dreams stand in one row, dream by dream, and devices take equal runs of it. Where there are more
devices than slots, a slot's children are split over several devices, each of which repeats the slot's gradient. What
does not divide is padded with places that hold no candidate.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int32, Shaped


@dataclasses.dataclass(frozen=True)
class Units:
    """The work of one device: parts of slots.

    Attributes:
        slot: int32[u], in the row of all dreams' slots.
        numbers: int32[u, n], the numbers of the slot's children that are made here.
        used: bool[u, n]; where it is False there is nothing to be made.
    """

    slot: Int32[Array, " u"]
    numbers: Int32[Array, "u n"]
    used: Bool[Array, "u n"]


@dataclasses.dataclass(frozen=True)
class Sharing:
    """How slots and children are shared among devices.

    Attributes:
        slots: of all dreams together.
        children: per slot.
        devices: their number.
    """

    slots: int
    children: int
    devices: int = 1

    @property
    def parts(self) -> int:
        """Parts that each slot's children are split into."""
        return min(max(1, self.devices // self.slots), self.children)

    @property
    def units(self) -> int:
        """Parts of slots that each device takes."""
        return -(-self.slots * self.parts // self.devices)

    @property
    def children_per_part(self) -> int:
        """Children that each part of a slot has room for."""
        return -(-self.children // self.parts)

    def of(self, device: int | Int32[Array, ""]) -> Units:
        """What a device does, given its number."""
        unit = device * self.units + jnp.arange(self.units, dtype=jnp.int32)
        numbers = (unit % self.parts)[:, None] * self.children_per_part + jnp.arange(
            self.children_per_part, dtype=jnp.int32
        )
        used = (unit < self.slots * self.parts)[:, None] & (numbers < self.children)
        return Units(jnp.minimum(unit // self.parts, self.slots - 1), numbers, used)

    def together(self, array: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """What all devices made, [devices * u * n, ...] in their order, as [slots, children, ...]."""
        places = self.parts * self.children_per_part
        used = array[: self.slots * places].reshape(self.slots, places, *array.shape[1:])
        return used[:, : self.children]
