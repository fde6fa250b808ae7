"""How a sweep's features are divided: features of one kind and size are dreamed together, some at a time."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

from epo_jax.dream.batch import folder_names
from epo_jax.errors import EpoError
from epo_jax.features import parse_feature
from epo_jax.models import LanguageModel

_LATENT = re.compile(r"(-?sae:.+):\d{1,9}", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Item:
    """One dream of a sweep.

    Attributes:
        number: its place in the list, from 0.
        feature: the feature string.
        seed: of all its randomness.
    """

    number: int
    feature: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Unusable:
    """A feature that cannot be dreamed, and why.

    Attributes:
        item: the dream that there is not.
        error: what is wrong with the feature.
    """

    item: Item
    error: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """All the work of a sweep.

    Attributes:
        batches: dreams that are advanced together; a batch is the unit of work.
        unusable: features that were found not to be features of this model.
    """

    batches: tuple[tuple[Item, ...], ...]
    unusable: tuple[Unusable, ...] = ()

    @property
    def dreams(self) -> int:
        """Rows that the results have in the end."""
        return sum(map(len, self.batches)) + len(self.unusable)

    def to_json(self) -> dict[str, Any]:
        """The layout as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Layout:
        """The layout that `to_json` gave."""
        return cls(
            tuple(tuple(Item(**item) for item in batch) for batch in values["batches"]),
            tuple(Unusable(Item(**one["item"]), one["error"]) for one in values["unusable"]),
        )


def divided(features: Sequence[str], seeds: Sequence[int], at_once: int, kind_of: Callable[[str], Hashable]) -> Layout:
    """Divide features, each with each seed, into batches; a fixed function of its arguments.

    Args:
        features: feature strings, each once.
        seeds: seeds, each once.
        at_once: dreams of a full batch (R).
        kind_of: tells which features one program serves; raises EpoError where there is no such feature.
    """
    kinds: dict[Hashable, list[Item]] = {}
    unusable: list[Unusable] = []
    for place, feature in enumerate(features):
        items = [Item(place * len(seeds) + at, feature, seed) for at, seed in enumerate(seeds)]
        try:
            kinds.setdefault(kind_of(feature), []).extend(items)
        except EpoError as error:
            unusable += [Unusable(item, str(error)) for item in items]
    batches = [
        tuple(items[start : start + at_once]) for items in kinds.values() for start in range(0, len(items), at_once)
    ]
    return Layout(tuple(batches), tuple(unusable))


def kinds_of(lm: LanguageModel) -> Callable[[str], Hashable]:
    """The function that tells which features of a model one program serves.

    Latents of one autoencoder are all of one kind; only the first one is read, since there may be a hundred thousand.
    """
    known: dict[str, Hashable] = {}

    def kind_of(text: str) -> Hashable:
        match = _LATENT.fullmatch(text)
        if match is not None and match[1] in known:
            return known[match[1]]
        feature = parse_feature(text, lm)
        kind = (jax.tree.structure(feature), tuple(leaf.shape for leaf in jax.tree.leaves(feature)))
        if match is not None:
            known[match[1]] = kind
        return kind

    return kind_of


def is_about(error: str, feature: str) -> bool:
    """Whether an error is about a feature, or about one that it is made of, as "-L0.N1" is of L0.N1."""
    flag = "--feature="
    if not error.startswith(flag):
        return False
    told = error.removeprefix(flag)
    starts = [0, *(at + 1 for at, character in enumerate(feature) if character in "-(")]
    ends = [len(feature), *(at for at, character in enumerate(feature) if character == ")")]
    return any(told.startswith(f"{feature[start:end]}: ") for start in starts for end in ends if start < end)


def run_folders(items: Sequence[Item]) -> list[str]:
    """The names of the run folders that `dream` makes for dreams that are advanced together."""
    return folder_names([(item.feature, item.seed) for item in items])
