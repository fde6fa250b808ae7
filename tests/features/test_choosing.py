"""A seed chooses features that can be read, the same each time."""

from __future__ import annotations

import pytest

import epo_jax
from epo_jax import EpoError
from epo_jax.features.choosing import chosen_logits, chosen_neurons


def test_neurons_are_the_models_own_all_different_and_the_seeds(tiny):
    names = chosen_neurons(tiny, 9, 4)
    assert names == chosen_neurons(tiny, 9, 4) != chosen_neurons(tiny, 9, 5)
    assert len({epo_jax.parse_feature(name, tiny).name for name in names}) == 9


def test_more_than_there_are_is_told(tiny):
    with pytest.raises(EpoError, match="--neurons=100000: the model has"):
        chosen_neurons(tiny, 100000, 0)
    with pytest.raises(EpoError, match="--logits=100000: the model has"):
        chosen_logits(tiny, 100000, 0)
