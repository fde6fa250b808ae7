"""Language models as scorers: gradients, scores, and `build`."""

from epo_jax.scoring.api import build, score, token_gradients
from epo_jax.scoring.site_values import activations
from epo_jax.scoring.template import Template, chat_template

__all__ = ["Template", "activations", "build", "chat_template", "score", "token_gradients"]
