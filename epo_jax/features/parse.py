"""From feature strings to features."""

from __future__ import annotations

from epo_jax.errors import EpoError
from epo_jax.features import attention, continuation, logit, negated, neuron, probe, residual, sae
from epo_jax.features import callable as called
from epo_jax.features import sum as weighted_sum
from epo_jax.features.base import Feature
from epo_jax.models import LanguageModel

# Functions come last: `name:name` may be any prefix and colon.
KINDS = (neuron, logit, residual, attention, probe, sae, continuation, called)
# Those that are made of other features.
MADE_OF_OTHERS = (weighted_sum, negated)


def parse_feature(text: str, lm: LanguageModel) -> Feature:
    """The feature that a string names.

    Args:
        text: such as "L10.N5" or "logit: dog"; each form's module tells what it means.
        lm: the model that it is a feature of.

    Returns:
        A pytree whose layers, indices, tokens, vectors and weights are traced numbers.

    Raises:
        EpoError: a string of no known form, or one that names what the model does not have.
    """
    for kind in MADE_OF_OTHERS:
        feature: Feature | None = kind.parse(text, lm, parse_feature)
        if feature is not None:
            return feature
    for kind in KINDS:
        feature = kind.parse(text, lm)
        if feature is not None:
            return feature
    forms = ", ".join(kind.FORM for kind in (*KINDS, *MADE_OF_OTHERS))
    raise EpoError(f"--feature={text}: not a feature string; the forms are {forms}")
