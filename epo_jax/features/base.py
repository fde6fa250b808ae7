"""What a feature is: a function of one token's values at named sites, read at the prompt's last token."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int32

Kept = Any
TOP = jnp.iinfo(jnp.int32).max  # above all layers
LOGITS = "logits"  # float32[V], the head's output; the one site that is outside the blocks


@dataclasses.dataclass(frozen=True, eq=False)
class Label:
    """Text that rides on a pytree as a static field; all labels are equal, so that none causes a compilation."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Label)

    def __hash__(self) -> int:
        return hash(Label)


@runtime_checkable
class Feature(Protocol):
    """A pytree whose leaves (layer, index, vector, ...) are traced, so that one compilation serves all of a kind.

    All methods are about one token of one prompt and are mapped over tokens, prompts and dreams by `jax.vmap`; what a
    feature keeps of a token is a pytree of small float32 arrays.

    Attributes:
        name: the feature string ("L10.N5"); kept in a `Label`, so that it is no part of the compilation's key.
        sites: names of the sites that it reads, out of `models.decoder.SITES` and `LOGITS`; static.
    """

    @property
    def name(self) -> str: ...

    @property
    def sites(self) -> tuple[str, ...]: ...

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """The last layer whose sites it reads, `TOP` for the head's output; above it evaluation leaves out tokens."""
        ...

    def empty(self) -> Kept:
        """What is kept of a token before any site was seen."""
        ...

    def observe(self, kept: Kept, site: str, layer: Int32[Array, ""], value: Float[Array, "..."]) -> Kept:
        """What is kept after the token's value at a site of a layer was seen."""
        ...

    def read(self, kept: Kept) -> Float32[Array, ""]:
        """The feature's value at the token."""
        ...


class OneNumber:
    """What features share that keep one number of each token, and whose string is in a `label`."""

    label: Label

    @property
    def name(self) -> str:
        """The feature string."""
        return self.label.text

    def empty(self) -> Float32[Array, ""]:
        """Zero, until the feature's site comes by."""
        return jnp.float32(0)

    def read(self, kept: Float32[Array, ""]) -> Float32[Array, ""]:
        """The number."""
        return kept
