"""What prompts may be: banned tokens and texts, frozen positions, and texts that are tokenized to the same tokens."""

from epo_jax.constraints.allowed import allowed_mask
from epo_jax.constraints.checked import checked_step, surviving_prompts
from epo_jax.constraints.constraints import RETOKENIZE, Constraints
from epo_jax.constraints.inspection import Inspection
from epo_jax.constraints.prepare import Rules, rules_of
from epo_jax.constraints.survival import Survival

__all__ = [
    "RETOKENIZE",
    "Constraints",
    "Inspection",
    "Rules",
    "Survival",
    "allowed_mask",
    "checked_step",
    "rules_of",
    "surviving_prompts",
]
