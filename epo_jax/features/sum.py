"""`sum:0.5*(L1.N2)-1*(logit: dog)`: a weighted sum of features."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.errors import EpoError
from epo_jax.features.base import Feature, Kept, Label, Places, Values
from epo_jax.models import LanguageModel

FORM = "sum:0.5*(L1.N2)-1*(logit: dog)"
_PREFIX = "sum:"
_WEIGHT = re.compile(r"\s*([+-]?)\s*(?:([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)\s*\*)?\s*\(")
_BLANK = re.compile(r"\s*")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum:
    """A weighted sum of features, each read as it is alone; read as a maximum, the sum of their maxima.

    Attributes:
        terms: features of any kinds, of which at most one text follows the prompt.
        weights: float32[n].
        label: the feature string.
    """

    terms: tuple[Feature, ...]
    weights: Float32[Array, "*R n"]
    label: Label = dataclasses.field(metadata={"static": True})

    @property
    def name(self) -> str:
        """The feature string."""
        return self.label.text

    @property
    def sites(self) -> tuple[str, ...]:
        """The terms' sites."""
        return tuple(dict.fromkeys(site for term in self.terms for site in term.sites))

    @property
    def reads(self) -> tuple[str, ...]:
        """The terms' kinds of tokens."""
        return tuple(dict.fromkeys(kind for term in self.terms for kind in term.reads))

    @property
    def target(self) -> Int32[Array, "*R m"]:
        """The text that terms follow the prompt with; no tokens where none does."""
        targets = [term.target for term in self.terms]
        return max(targets, key=lambda target: target.shape[-1])

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """The depth of the deepest term."""
        return jnp.stack([term.depth for term in self.terms]).max(axis=0)

    def within(self, tokens: int) -> Sum:
        """The sum of what the terms are in sequences of so many tokens."""
        return dataclasses.replace(self, terms=tuple(term.within(tokens) for term in self.terms))

    def empty(self) -> Kept:
        """What each term keeps."""
        return tuple(term.empty() for term in self.terms)

    def observe(self, kept: Kept, site: str, layer: Int32[Array, ""], value: Float[Array, "..."]) -> Kept:
        """What each term keeps, of which those look that read the site."""
        return tuple(
            term.observe(own, site, layer, value) if site in term.sites else own
            for term, own in zip(self.terms, kept, strict=True)
        )

    def value(self, kept: Kept) -> Values:
        """What the token brings to each term."""
        return tuple(term.value(own) for term, own in zip(self.terms, kept, strict=True))

    def total(self, values: Values, places: Places, before: Values | None) -> Float32[Array, ""]:
        """The sum."""
        earlier = before if before is not None else (None,) * len(self.terms)
        found = [term.total(own, places, past) for term, own, past in zip(self.terms, values, earlier, strict=True)]
        return (self.weights * jnp.stack(found)).sum()


def parse(text: str, lm: LanguageModel, parse_feature: Callable[[str, LanguageModel], Feature]) -> Sum | None:
    """The sum that a feature string names, or None if it is not of this kind.

    A term is a sign, a weight and `*`, which may be left out, and a feature string in parentheses, verbatim, whose own
    parentheses balance.

    Raises:
        EpoError: other text between the terms, no feature in one, or two texts that follow the prompt.
    """
    if not text.startswith(_PREFIX):
        return None
    flag = f"--feature={text}"
    parts = _split(text.removeprefix(_PREFIX), flag)
    with np.errstate(over="ignore"):
        weights = np.asarray([weight for weight, _ in parts]).astype(np.float32)
    terms = tuple(parse_feature(part, lm) for _, part in parts)
    if not np.isfinite(weights).all():
        raise EpoError(f"{flag}: a weight is beyond float32")
    targets = {tuple(np.asarray(term.target).tolist()): term.name for term in terms if term.target.shape[0]}
    if len(targets) > 1:
        raise EpoError(f"{flag}: one text can follow the prompt, but terms give several: {', '.join(targets.values())}")
    return Sum(terms, jnp.asarray(weights), Label(text))


def _split(text: str, flag: str) -> list[tuple[float, str]]:
    """Weights and feature strings of a sum's terms."""
    parts: list[tuple[float, str]] = []
    at = 0
    while at < len(text):
        match = _WEIGHT.match(text, at)
        # A sign stands between two terms and may stand before the first.
        if match is None or (parts and not match[1]):
            break
        stop = _closing(text, match.end(), flag)
        parts.append((math.copysign(float(match[2] or 1), -1 if match[1] == "-" else 1), text[match.end() : stop - 1]))
        blank = _BLANK.match(text, stop)
        at = blank.end() if blank else stop
    if at < len(text) or not parts:
        raise EpoError(f"{flag}: no term at {text[at:]!r}; a term is a weight, * and a feature in parentheses: {FORM}")
    return parts


def _closing(text: str, start: int, flag: str) -> int:
    """The place behind the parenthesis that closes the one before a place."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    raise EpoError(f"{flag}: the parenthesis before {text[start:]!r} is never closed; those inside a term must balance")
