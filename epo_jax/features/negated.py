"""`-L10.N5`: a feature turned round, so that a dream makes it small."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.features.base import Feature, Kept, Label, Places, Values
from epo_jax.models import LanguageModel

FORM = "-L10.N5 (any form, minimized)"
_SIGN = "-"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Negated:
    """Minus a feature; where that is read as a maximum, minus the maximum.

    Attributes:
        feature: what is turned round.
        label: the feature string.
    """

    feature: Feature
    label: Label = dataclasses.field(metadata={"static": True})

    @property
    def name(self) -> str:
        """The feature string."""
        return self.label.text

    @property
    def sites(self) -> tuple[str, ...]:
        """The feature's."""
        return self.feature.sites

    @property
    def reads(self) -> tuple[str, ...]:
        """The feature's."""
        return self.feature.reads

    @property
    def target(self) -> Int32[Array, "*R m"]:
        """The feature's."""
        return self.feature.target

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """The feature's."""
        return self.feature.depth

    def within(self, tokens: int) -> Negated:
        """Minus what the feature is in sequences of so many tokens."""
        return dataclasses.replace(self, feature=self.feature.within(tokens))

    def empty(self) -> Kept:
        """As the feature keeps it."""
        return self.feature.empty()

    def observe(self, kept: Kept, site: str, layer: Int32[Array, ""], value: Float[Array, "..."]) -> Kept:
        """As the feature keeps it."""
        return self.feature.observe(kept, site, layer, value)

    def value(self, kept: Kept) -> Values:
        """The feature's, not turned round."""
        return self.feature.value(kept)

    def total(self, values: Values, places: Places, before: Values | None) -> Float32[Array, ""]:
        """Minus the feature."""
        return -self.feature.total(values, places, before)


def parse(text: str, lm: LanguageModel, parse_feature: Callable[[str, LanguageModel], Feature]) -> Negated | None:
    """The feature that a feature string turns round, or None if it turns none.

    Raises:
        EpoError: what follows the sign is no feature.
    """
    if not text.startswith(_SIGN):
        return None
    return Negated(parse_feature(text.removeprefix(_SIGN), lm), Label(text))
