"""`continuation: text`: how likely the model is to go on with a text after the prompt."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.errors import EpoError
from epo_jax.features.base import NEXT, TARGET, TOP, Label, OneNumber, Places
from epo_jax.models import LanguageModel
from epo_jax.models.text_tokens import tokens_of

FORM = "continuation: text"
_PREFIX = "continuation:"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Continuation(OneNumber):
    """Mean log-probability of a text's tokens after prompt and suffix, each given those before it.

    Minus this number is the loss of Greedy Coordinate Gradient (GCG).

    Attributes:
        ids: int32[m], the text's tokens.
        label: the feature string.
    """

    ids: Int32[Array, "*R m"]
    label: Label = dataclasses.field(metadata={"static": True})

    @property
    def sites(self) -> tuple[str, ...]:
        """The log-probability of the token that follows."""
        return (NEXT,)

    @property
    def reads(self) -> tuple[str, ...]:
        """The tokens that predict the text."""
        return (TARGET,)

    @property
    def target(self) -> Int32[Array, "*R m"]:
        """The text's tokens."""
        return self.ids

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """Above all layers."""
        return jnp.full_like(self.ids[..., 0], TOP)

    def observe(
        self, kept: Float32[Array, ""], site: str, layer: Int32[Array, ""], value: Float32[Array, ""]
    ) -> Float32[Array, ""]:
        """The log-probability."""
        return value

    def total(
        self, values: Float32[Array, " W"], places: Places, before: Float32[Array, " n"] | None
    ) -> Float32[Array, ""]:
        """The mean over the text's tokens."""
        return jnp.where(places.target, values, 0).sum() / self.ids.shape[-1]


def parse(text: str, lm: LanguageModel) -> Continuation | None:
    """The continuation that a feature string names, or None if it is not of this kind.

    The text after the colon is verbatim, a leading space included, and tokenized by itself.

    Raises:
        EpoError: a text without tokens, one that its tokens do not give back, or a token that the model does not have.
    """
    if not text.startswith(_PREFIX):
        return None
    ids = tokens_of(lm, text[len(_PREFIX) :], "--feature=continuation", inside=True)
    if not len(ids):
        raise EpoError(f"--feature={text}: no text to continue with; the form is {FORM}, verbatim after the colon")
    return Continuation(jnp.asarray(ids, jnp.int32), Label(text))
