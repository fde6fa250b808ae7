"""What a feature is: a function of each token's values at named sites, and of those to one number for a prompt."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Float32, Int32

Kept = Any
Values = Any
TOP = jnp.iinfo(jnp.int32).max  # above all layers
LOGITS = "logits"  # float32[V], the head's output
NEXT = "log_prob"  # float32[], the log-probability of the token that follows; like LOGITS outside the blocks
OUTSIDE = (LOGITS, NEXT)

# Kinds of tokens that a feature's number is made of, see `Places`.
READ, TARGET, EVERY = "read", "target", "every"


@dataclasses.dataclass(frozen=True, eq=False)
class Label:
    """Text that rides on a pytree as a static field; all labels are equal, so that none causes a compilation."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Label)

    def __hash__(self) -> int:
        return hash(Label)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Places:
    """What the columns of a sequence mean to features; columns count from the first optimized token.

    Attributes:
        read: bool[W], those that --read names.
        target: bool[W], those that predict a token of the features' target text, which follows the suffix.
        every: bool[W], the optimized tokens and the suffix.
    """

    read: Bool[Array, "*B W"]
    target: Bool[Array, "*B W"]
    every: Bool[Array, "*B W"]

    def of(self, reads: tuple[str, ...]) -> Bool[Array, "*B W"]:
        """Columns of any of some kinds."""
        masks = [getattr(self, kind) for kind in reads]
        return jnp.stack(masks).any(axis=0)


@runtime_checkable
class Feature(Protocol):
    """A pytree whose leaves (layer, index, vector, ...) are traced, so that one compilation serves all of a kind.

    `observe` and `value` are about one token of one prompt and are mapped over tokens, prompts and dreams by
    `jax.vmap`, `total` about one prompt. What a feature keeps of a token is a pytree of small float32 arrays. There is
    at least one leaf.

    Attributes:
        name: the feature string ("L10.N5"); kept in a `Label`, so that it is no part of the compilation's key.
        sites: names of the sites that it reads, out of `models.decoder.SITES` and `OUTSIDE`; static.
        reads: the kinds of tokens whose values `total` uses, out of `READ`, `TARGET` and `EVERY`; static. One that
            reads every token is also shown the frozen ones before the prompt.
        target: int32[m], tokens that follow the prompt and its suffix, for features of what the model says of them.
    """

    @property
    def name(self) -> str: ...

    @property
    def sites(self) -> tuple[str, ...]: ...

    @property
    def reads(self) -> tuple[str, ...]: ...

    @property
    def target(self) -> Int32[Array, " m"]: ...

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """The last layer whose sites it reads, `TOP` for the head's output; above it evaluation leaves out tokens."""
        ...

    def within(self, tokens: int) -> Feature:
        """The feature in sequences of so many tokens, the target excluded.

        Raises:
            EpoError: it reads a position that such sequences do not have.
        """
        ...

    def empty(self) -> Kept:
        """What is kept of a token before any site was seen."""
        ...

    def observe(self, kept: Kept, site: str, layer: Int32[Array, ""], value: Float[Array, "..."]) -> Kept:
        """What is kept after the token's value at a site of a layer was seen."""
        ...

    def value(self, kept: Kept) -> Values:
        """What the token brings to the total: a pytree of float32 arrays."""
        ...

    def total(self, values: Values, places: Places, before: Values | None) -> Float32[Array, ""]:
        """The feature of a prompt.

        Args:
            values: of W columns, optimized tokens, suffix and target, a leading axis; others than those that the
                feature reads mean nothing.
            places: what the columns mean.
            before: values of the frozen tokens before them, for a feature that reads every token; None without them.
        """
        ...


class OneNumber:
    """What features share that are one number at each token, and whose string is in a `label`."""

    label: Label

    @property
    def name(self) -> str:
        """The feature string."""
        return self.label.text

    @property
    def reads(self) -> tuple[str, ...]:
        """The tokens that --read names."""
        return (READ,)

    @property
    def target(self) -> Int32[Array, " m"]:
        """No tokens."""
        return jnp.zeros(0, jnp.int32)

    def within(self, tokens: int) -> Feature:
        """The same in sequences of any length."""
        return self  # type: ignore[return-value]

    def empty(self) -> Float32[Array, ""]:
        """Zero, until the feature's site comes by."""
        return jnp.float32(0)

    def value(self, kept: Float32[Array, ""]) -> Float32[Array, ""]:
        """The number."""
        return kept

    def total(
        self, values: Float32[Array, " W"], places: Places, before: Float32[Array, " n"] | None
    ) -> Float32[Array, ""]:
        """The largest number among the tokens that are read, be it one or many."""
        return jnp.where(places.read, values, -jnp.inf).max()


class OneSite(OneNumber):
    """What features share that are one number of a site of one block; they have the fields `layer` and `site`."""

    layer: Int32[Array, "*R"]
    site: str

    @property
    def sites(self) -> tuple[str, ...]:
        """The site of every block."""
        return (self.site,)

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """The site's block."""
        return self.layer
