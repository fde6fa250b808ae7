"""How a model goes on, by a plain loop over whole sequences."""

from __future__ import annotations

import numpy as np

import epo_jax
from epo_jax.models.tokenizers import known_tokens


def plainly(lm: epo_jax.LanguageModel, whole: np.ndarray, length: int) -> list[list[int]]:
    """The likeliest token after each sequence, again and again, by runs of all of it."""
    known = known_tokens(lm.tokenizer, lm.config.vocab_size)
    start = whole.shape[1]
    # Room from the beginning, which no token before it sees: one program serves all lengths.
    whole = np.pad(whole, ((0, 0), (0, length)))
    for end in range(start, start + length):
        logits = np.where(known, np.asarray(epo_jax.logits(lm, whole))[:, end - 1], -np.inf)
        whole[:, end] = logits.argmax(axis=-1)
    return whole[:, start:].tolist()
