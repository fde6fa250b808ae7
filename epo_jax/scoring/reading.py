"""Where a feature is read: at one position of a prompt, or as the maximum over its optimized tokens."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int32

from epo_jax.errors import EpoError
from epo_jax.features.base import READ, TARGET, Places

LAST, MAX = "last", "max"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reading:
    """Tokens at which a feature is read.

    Columns j of the arrays below count from the first optimized token; the suffix follows the last one of each prompt,
    and its last tokens are the features' target. Positions do not count those.

    Attributes:
        position: int32, counted from the first token of the sequence, or from its end if negative; traced.
        maximum: whether the value is instead the maximum over the optimized tokens; static.
        target: tokens of the features' target; static.
    """

    position: Int32[Array, ""]
    maximum: bool = dataclasses.field(metadata={"static": True})
    target: int = dataclasses.field(metadata={"static": True})

    def places(self, length: Int32[Array, " B"], prefix: int, suffix: int, width: int) -> Places:
        """What each of `width` columns means in each prompt; prefix and suffix count tokens, the target included."""
        length = length[:, None]
        end = length + suffix - self.target
        column = jnp.arange(width)
        return Places(
            read=column < length if self.maximum else column == self._column(end, prefix),
            target=(column >= end - 1) & (column < end - 1 + self.target),
            every=column < end,
        )

    def shown(
        self, reads: tuple[str, ...], length: Int32[Array, " B"], prefix: int, suffix: int, optimized: int
    ) -> Int32[Array, "B k"]:
        """The columns whose head's output features may read: one for each prompt, or all optimized ones, or more."""
        width, end = optimized + suffix, length[:, None] + suffix - self.target
        columns = []
        if READ in reads and self.maximum:
            columns.append(jnp.broadcast_to(jnp.arange(optimized, dtype=jnp.int32), (length.shape[0], optimized)))
        elif READ in reads:
            columns.append(self._column(end, prefix))
        if TARGET in reads:
            columns.append(end - 1 + jnp.arange(self.target, dtype=jnp.int32))
        return jnp.clip(jnp.concatenate(columns, axis=1), 0, width - 1)

    def _column(self, end: Int32[Array, "B 1"], prefix: int) -> Int32[Array, "B 1"]:
        return jnp.where(self.position < 0, end + self.position, self.position - prefix)


def parse_reading(read: str | int, prefix: int, length: int, suffix: int, target: int = 0) -> Reading:
    """The reading that "last", "max" or a position names.

    Args:
        read: "last", "max", or a position in the whole sequence; negative positions count from its end.
        prefix: tokens before the optimized ones, a BOS included.
        length: optimized tokens.
        suffix: tokens after them.
        target: tokens of the features' target, which follow the suffix and are no part of the sequence here.

    Raises:
        EpoError: another word, a position outside the sequence, or one inside the prefix, where nothing changes.
    """
    if read == MAX:
        return Reading(jnp.int32(-1), maximum=True, target=target)
    try:
        position = -1 if read == LAST else int(read)
    except ValueError as error:
        raise EpoError(f"--read={read}: not {LAST}, {MAX} or a position") from error
    total = prefix + length + suffix
    if not -total <= position < total:
        raise EpoError(f"--read={read}: the sequence has the positions 0 to {total - 1}, or -{total} to -1")
    if position % total < prefix:
        raise EpoError(f"--read={read}: lies in the prefix of {prefix} tokens, where no prompt changes the feature")
    return Reading(jnp.int32(position), maximum=False, target=target)
