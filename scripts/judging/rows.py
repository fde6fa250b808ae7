"""What work costs: one rule for every method.

A row is the position of one token run forward through the model's layers. Of T optimized tokens

- a prompt scored whole costs T rows,
- a candidate that equals its parent before its first edited position, and is run from there on, T minus that position,
- a prompt with its gradient 3 T: a forward pass, and a backward pass that is as dear as two,
- a prompt that others are made of without its gradient T,
- a token that is tried as the next one of a prompt that is known so far, 1,
- a token that is sampled from the model, or read in a corpus, 1.

What is not counted: a BOS, where the tokenizer adds one, and the head that turns a token's last values into logits.
"""

from __future__ import annotations

import epo_jax
from epo_jax.epo.work import GRADIENT_ROWS

GRADIENT = GRADIENT_ROWS


def budget_of(config: epo_jax.EPOConfig) -> int:
    """Rows that the paper's search takes on average for the iterations of its settings."""
    initial = config.population * config.length
    gradients = config.population * GRADIENT * config.length
    # Edited positions are drawn uniformly.
    children = config.population * config.children * (config.length + 1) / 2
    return initial + round(config.iterations * (gradients + children))
