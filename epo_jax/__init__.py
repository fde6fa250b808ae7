"""Fluent dreaming for language models in JAX: prompts that a feature of a model responds to, between strong and fluent.

`epo_jax.dream` is the function; the command line is `python -m epo_jax.dream`.
"""

from epo_jax import advice as advice  # first, since others import transformers
from epo_jax.attribution import Attribution, attribute
from epo_jax.config import PRESETS, EPOConfig
from epo_jax.constraints import Constraints
from epo_jax.dream import NonFiniteError, Progress, Result, TensorBoard, WeightsAndBiases, load_result, merge_frontiers
from epo_jax.dream import dream as dream
from epo_jax.epo import Algorithm, Scores, State
from epo_jax.errors import EpoError
from epo_jax.features import Feature, parse_feature
from epo_jax.models import LanguageModel, load_model, logits
from epo_jax.scoring import Template, activations, build, chat_template, score, token_gradients

__all__ = [
    "PRESETS",
    "Algorithm",
    "Attribution",
    "Constraints",
    "EPOConfig",
    "EpoError",
    "Feature",
    "LanguageModel",
    "NonFiniteError",
    "Progress",
    "Result",
    "Scores",
    "State",
    "Template",
    "TensorBoard",
    "WeightsAndBiases",
    "activations",
    "attribute",
    "build",
    "chat_template",
    "dream",
    "load_model",
    "load_result",
    "logits",
    "merge_frontiers",
    "parse_feature",
    "score",
    "token_gradients",
]
