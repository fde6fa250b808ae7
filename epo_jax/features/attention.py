"""`attention:L5.H3:0`: how much a head attends from the token that is read to a position."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.errors import EpoError
from epo_jax.features.base import Label, OneNumber
from epo_jax.features.site_names import check_layer
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import PATTERN

FORM = "attention:L5.H3:0"
_PREFIX = "attention:"
_PATTERN = re.compile(r"attention:L([0-9]{1,9})\.H([0-9]{1,9}):(-?[0-9]{1,9})")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionEntry(OneNumber):
    """Weight of a head's attention to one position.

    Attributes:
        layer: the head's block.
        head: its number there.
        position: counted from the first token of the sequence, or from its end if negative.
        label: the feature string.
    """

    layer: Int32[Array, "*R"]
    head: Int32[Array, "*R"]
    position: Int32[Array, "*R"]
    label: Label = dataclasses.field(metadata={"static": True})

    @property
    def sites(self) -> tuple[str, ...]:
        """The patterns of every block."""
        return (PATTERN,)

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """The head's block."""
        return self.layer

    def within(self, tokens: int) -> AttentionEntry:
        """The entry with its position counted from the first token."""
        position = int(self.position)
        if not -tokens <= position < tokens:
            raise EpoError(
                f"--feature={self.name}: the sequence has no position {position}; its positions are 0 to {tokens - 1}, "
                f"or -{tokens} to -1"
            )
        return dataclasses.replace(self, position=jnp.int32(position % tokens))

    def observe(
        self, kept: Float32[Array, ""], site: str, layer: Int32[Array, ""], value: Float[Array, "H keys"]
    ) -> Float32[Array, ""]:
        """Keep the weight in the head's own block."""
        return jnp.where(layer == self.layer, value[self.head, self.position].astype(jnp.float32), kept)


def parse(text: str, lm: LanguageModel) -> AttentionEntry | None:
    """The entry that a feature string names, or None if it is not of this kind.

    Raises:
        EpoError: a layer or a head that the model does not have.
    """
    if not text.startswith(_PREFIX):
        return None
    flag = f"--feature={text}"
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise EpoError(f"{flag}: not an entry of an attention pattern; the form is {FORM}, layer, head and position")
    layer, head = check_layer(int(match[1]), lm, flag), int(match[2])
    if head >= lm.config.heads:
        raise EpoError(f"{flag}: a layer has no head {head}; its heads are 0 to {lm.config.heads - 1}")
    return AttentionEntry(jnp.int32(layer), jnp.int32(head), jnp.int32(int(match[3])), Label(text))
