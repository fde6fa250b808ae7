"""The features that searches are judged on: two lists that share none, one to tune with and one to report."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

import epo_jax
from epo_jax.errors import EpoError
from epo_jax.features.choosing import chosen_logits

SEED = 0
LISTS = ("tune", "report")
NEURON, LOGIT, DIRECTION = KINDS = ("neuron", "logit", "direction")
# Any beginning of a list has about as many neurons as other features.
ORDER = (NEURON, LOGIT, NEURON, DIRECTION)
# Equal slices of the layers, in an order in which the first few lie far apart.
SLICES = {
    ("tune", NEURON): (1, 2, 0),
    ("tune", DIRECTION): (1, 2, 0),
    ("report", NEURON): (2, 5, 7, 0, 4, 1, 6, 3),
    ("report", DIRECTION): (1, 3, 2, 0),
}
# The list to tune with has no more, so that the other one's words can begin behind its words.
LONGEST = {"tune": 12, "report": 64}


def features(lm: epo_jax.LanguageModel, which: str, count: int) -> list[str]:
    """The first features of a list: neurons, logits of whole words and directions of the residual stream, mixed.

    Args:
        lm: the model.
        which: "tune" or "report".
        count: how many; fewer are the beginning of more.

    Raises:
        EpoError: another list, more than it has, or a model without as many words.
    """
    if which not in LISTS:
        raise EpoError(f"--list={which}: not one of {', '.join(LISTS)}")
    if not 1 <= count <= LONGEST[which]:
        raise EpoError(f"--features={count}: the list {which} has 1 to {LONGEST[which]}")
    kinds = list(itertools.islice(itertools.cycle(ORDER), count))
    words = itertools.cycle(ORDER)
    before = 0 if which == "tune" else sum(next(words) == LOGIT for _ in range(LONGEST["tune"]))
    logits = chosen_logits(lm, before + kinds.count(LOGIT), SEED)[before:]
    own = {NEURON: _neurons(lm, which), LOGIT: iter(logits), DIRECTION: _directions(lm, which)}
    return [next(own[kind]) for kind in kinds]


def kind_of(feature: str) -> str:
    """Whether a feature of a list is a "neuron", a "logit" or a "direction"."""
    if feature.startswith("logit:"):
        return LOGIT
    return DIRECTION if feature.startswith("residual:") else NEURON


def _neurons(lm: epo_jax.LanguageModel, which: str) -> Iterator[str]:
    """Neurons of all depths; each list has one half of a layer's neurons, every second one."""
    rng = np.random.default_rng((SEED, LISTS.index(which)))
    known = set()
    for layers in _depths(lm.config.layers, SLICES[which, NEURON]):
        neuron = None
        while neuron is None or neuron in known:
            index = LISTS.index(which) + 2 * rng.integers(lm.config.mlp_width // 2)
            neuron = f"L{rng.choice(layers)}.N{index}"
        known.add(neuron)
        yield neuron


def _directions(lm: epo_jax.LanguageModel, which: str) -> Iterator[str]:
    """Random directions, each of a vector of its own; before the first block there is only the token itself."""
    rng = np.random.default_rng((SEED, len(LISTS) + LISTS.index(which)))
    first = min(1, lm.config.layers - 1)
    for number, layers in enumerate(_depths(lm.config.layers - first, SLICES[which, DIRECTION])):
        vector = LISTS.index(which) + len(LISTS) * number
        yield f"residual:L{first + rng.choice(layers)}:random:{vector}"


def _depths(layers: int, slices: tuple[int, ...]) -> Iterator[range]:
    for part in itertools.cycle(slices):
        start = part * layers // len(slices)
        yield range(start, max(start + 1, (part + 1) * layers // len(slices)))
