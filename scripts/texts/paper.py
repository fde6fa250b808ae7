"""The published prompts of the paper, and what a model makes of them beside what was published."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import epo_jax
from epo_jax.errors import EpoError
from epo_jax.scoring.template import FrozenTokens, Template, frozen_tokens
from epo_jax.scoring.texts import score_texts, text_ids

FILE = Path(__file__).parent / "paper.json"


@dataclasses.dataclass(frozen=True)
class Published:
    """A prompt of the paper.

    Attributes:
        feature: the feature string.
        text: as printed.
        value: the feature's published value.
        cross_entropy: published, or the logarithm of the published perplexity, in nats/token.
    """

    feature: str
    text: str
    value: float
    cross_entropy: float


@dataclasses.dataclass(frozen=True)
class Compared:
    """A published prompt on a model; without values where a note says why there are none.

    Attributes:
        published: the prompt.
        value: the feature's value here.
        cross_entropy: here, in nats/token.
        tokens: how many tokens the text has here.
        note: what is different here; empty if nothing is.
    """

    published: Published
    value: float | None
    cross_entropy: float | None
    tokens: int | None
    note: str


def facts() -> dict[str, Any]:
    """The paper's settings and published prompts."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def published() -> list[Published]:
    """All published prompts."""
    known = facts()
    logits = [
        Published(f"logit:{one['target']}", one["text"], one["logit_difference"], math.log(one["perplexity"]))
        for one in known["logits"]
    ]
    neurons = [
        Published(one["feature"], one["text"], one["activation"], math.log(one["perplexity"]))
        for one in known["neurons"]
    ]
    more = [Published("L10.N5", one["text"], one["activation"], one["cross_entropy"]) for one in known["L10.N5"]]
    return [*logits, *neurons, *more]


def is_papers(lm: epo_jax.LanguageModel) -> bool:
    """Whether a model is the one that the prompts were published for; its training steps are other models."""
    return bool(lm.source == facts()["settings"]["model"]) and lm.revision in (None, "main")


def published_of(lm: epo_jax.LanguageModel, feature: str) -> list[Published]:
    """The published prompts of a feature; none of another model than the paper's."""
    return [one for one in published() if one.feature == feature] if is_papers(lm) else []


def compare(lm: epo_jax.LanguageModel, template: Template) -> list[Compared]:
    """Every published prompt on a model, in the order of `published`."""
    length, frozen = facts()["settings"]["length"], frozen_tokens(lm, template)
    rows: list[Compared] = []
    features, texts = {}, {}
    for number, one in enumerate(published()):
        try:
            feature = epo_jax.parse_feature(one.feature, lm)
            ids = _tokens(lm, one.text, frozen, length)
        except EpoError as error:
            rows.append(Compared(one, None, None, None, str(error)))
            continue
        features[number], texts[number] = feature, ids
        note = "" if len(ids) == length else f"{len(ids)} tokens here, {length} in the paper"
        rows.append(Compared(one, None, None, len(ids), note))
    scores = score_texts(lm, list(features.values()), list(texts.values()), template)
    for number, found in zip(features, scores, strict=True):
        rows[number] = dataclasses.replace(rows[number], value=found.feature, cross_entropy=found.cross_entropy)
    return rows


def _tokens(lm: epo_jax.LanguageModel, text: str, frozen: FrozenTokens, length: int) -> list[int]:
    """The tokens of a printed text, which may have lost a leading space: the way that gives the paper's number."""
    as_printed = text_ids(lm, text, frozen)
    if len(as_printed) == length:
        return as_printed
    spaced = text_ids(lm, f" {text}", frozen)
    return spaced if len(spaced) == length else as_printed
