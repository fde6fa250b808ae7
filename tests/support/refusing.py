"""Feature strings that must be refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import epo_jax

IDS = [[5, 6, 7, 8]]


def scored(text: str, lm: epo_jax.LanguageModel) -> object:
    """Scores of four tokens."""
    return epo_jax.score(lm, epo_jax.parse_feature(text, lm), IDS)


def refused(
    lm: epo_jax.LanguageModel,
    text: str,
    said: str,
    use: Callable[[str, epo_jax.LanguageModel], object] = epo_jax.parse_feature,
) -> None:
    """Refused in one line, which says this."""
    with pytest.raises(epo_jax.EpoError, match=re.escape(said)) as raised:
        use(text, lm)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("--feature=")
    assert len(str(raised.value)) < 500
