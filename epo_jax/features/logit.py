"""`logit: dog`: the logit of a token above the largest other logit."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.errors import EpoError
from epo_jax.features.base import LOGITS, TOP, Label, OneNumber
from epo_jax.models import LanguageModel
from epo_jax.models.tokenizers import token_texts

FORM = "logit: dog"
_PREFIX = "logit:"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LogitDifference(OneNumber):
    """Logit of a token minus the largest of all other logits (section 3.1 of the paper)."""

    token: Int32[Array, "*R"]
    label: Label = dataclasses.field(metadata={"static": True})

    @property
    def sites(self) -> tuple[str, ...]:
        """The head's output."""
        return (LOGITS,)

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """Above all layers."""
        return jnp.full_like(self.token, TOP)

    def observe(
        self, kept: Float32[Array, ""], site: str, layer: Int32[Array, ""], value: Float[Array, " V"]
    ) -> Float32[Array, ""]:
        """The difference."""
        others = jnp.where(jnp.arange(value.shape[0]) == self.token, -jnp.inf, value)
        return (value[self.token] - others.max()).astype(jnp.float32)


def parse(text: str, lm: LanguageModel) -> LogitDifference | None:
    """The logit difference that a feature string names, or None if it is not of this kind.

    The text after the colon is verbatim, a leading space included.

    Raises:
        EpoError: a text that is not exactly one token of the model, showing its tokens.
    """
    if not text.startswith(_PREFIX):
        return None
    target = text[len(_PREFIX) :]
    ids = lm.tokenizer.encode(target, add_special_tokens=False)
    if len(ids) != 1:
        tokens = ", ".join(repr(piece) for piece in token_texts(lm.tokenizer, ids)) or "none"
        raise EpoError(f"--feature={text}: {target!r} must be one token of the model, but its tokens are {tokens}")
    if ids[0] >= lm.config.vocab_size:
        raise EpoError(
            f"--feature={text}: token {ids[0]} of the tokenizer lies outside the model's vocabulary 0 to "
            f"{lm.config.vocab_size - 1}"
        )
    return LogitDifference(jnp.int32(ids[0]), Label(text))
