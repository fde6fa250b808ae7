"""Where a feature is read: at one position of a prompt, or as the maximum over its optimized tokens."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float32, Int32

from epo_jax.errors import EpoError

LAST, MAX = "last", "max"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reading:
    """Tokens at which a feature is read.

    Columns j of the arrays below count from the first optimized token; the suffix follows the last one of each prompt.

    Attributes:
        position: int32, counted from the first token of the sequence, or from its end if negative; traced.
        maximum: whether the value is instead the maximum over the optimized tokens; static.
    """

    position: Int32[Array, ""]
    maximum: bool = dataclasses.field(metadata={"static": True})

    def last_column(self, length: Int32[Array, " B"], prefix: int, suffix: int) -> Int32[Array, " B"]:
        """The last column that is read in each prompt."""
        if self.maximum:
            return length - 1
        return jnp.where(self.position < 0, length + suffix + self.position, self.position - prefix)

    def columns(self, length: Int32[Array, " B"], prefix: int, suffix: int, width: int) -> Bool[Array, "B W"]:
        """Which columns are read in each prompt."""
        last = self.last_column(length, prefix, suffix)[:, None]
        column = jnp.arange(width)
        return column <= last if self.maximum else column == last

    def shown(self, length: Int32[Array, " B"], prefix: int, suffix: int, optimized: int) -> Int32[Array, "B k"]:
        """The columns that may be read: one for each prompt, or all optimized tokens."""
        if self.maximum:
            return jnp.broadcast_to(jnp.arange(optimized, dtype=jnp.int32), (length.shape[0], optimized))
        return jnp.clip(self.last_column(length, prefix, suffix), 0, optimized + suffix - 1)[:, None]

    def of(
        self, values: Float32[Array, "B W"], length: Int32[Array, " B"], prefix: int, suffix: int
    ) -> Float32[Array, " B"]:
        """The feature of each prompt, given its values at all columns that are read."""
        if self.maximum:
            read = self.columns(length, prefix, suffix, values.shape[1])
            return jnp.where(read, values, -jnp.inf).max(axis=1)
        last = self.last_column(length, prefix, suffix)
        return jnp.take_along_axis(values, jnp.clip(last, 0, values.shape[1] - 1)[:, None], axis=1)[:, 0]


def parse_reading(read: str | int, prefix: int, length: int, suffix: int) -> Reading:
    """The reading that "last", "max" or a position names.

    Args:
        read: "last", "max", or a position in the whole sequence; negative positions count from its end.
        prefix: tokens before the optimized ones, a BOS included.
        length: optimized tokens.
        suffix: tokens after them.

    Raises:
        EpoError: another word, a position outside the sequence, or one inside the prefix, where nothing changes.
    """
    if read == MAX:
        return Reading(jnp.int32(-1), maximum=True)
    try:
        position = -1 if read == LAST else int(read)
    except ValueError as error:
        raise EpoError(f"--read={read}: not {LAST}, {MAX} or a position") from error
    total = prefix + length + suffix
    if not -total <= position < total:
        raise EpoError(f"--read={read}: the sequence has the positions 0 to {total - 1}, or -{total} to -1")
    if position % total < prefix:
        raise EpoError(f"--read={read}: lies in the prefix of {prefix} tokens, where no prompt changes the feature")
    return Reading(jnp.int32(position), maximum=False)
