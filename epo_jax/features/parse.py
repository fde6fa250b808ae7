"""From feature strings to features."""

from __future__ import annotations

from epo_jax.errors import EpoError
from epo_jax.features import logit, neuron
from epo_jax.features.base import Feature
from epo_jax.models import LanguageModel

KINDS = (neuron, logit)


def parse_feature(text: str, lm: LanguageModel) -> Feature:
    """The feature that a string names.

    Args:
        text: "L10.N5" or "logit: dog".
        lm: the model that it is a feature of.

    Returns:
        A pytree whose layer, index or token is a traced number.

    Raises:
        EpoError: a string of no known form, or one that names what the model does not have.
    """
    for kind in KINDS:
        feature = kind.parse(text, lm)
        if feature is not None:
            return feature
    raise EpoError(f"--feature={text}: not a feature string; the forms are {', '.join(kind.FORM for kind in KINDS)}")
