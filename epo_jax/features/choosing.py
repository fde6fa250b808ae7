"""Features that a seed chooses, so that nobody does."""

from __future__ import annotations

import numpy as np

from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.models.tokenizers import token_texts


def chosen_neurons(lm: LanguageModel, count: int, seed: int) -> list[str]:
    """Feature strings of neurons, all different, each as likely as any other of the model.

    Raises:
        EpoError: the model has fewer.
    """
    width = lm.config.mlp_width
    if count > lm.config.layers * width:
        raise EpoError(f"--neurons={count}: the model has {lm.config.layers * width}; give at most so many")
    drawn = np.random.default_rng(seed).choice(lm.config.layers * width, size=count, replace=False)
    return [f"L{number // width}.N{number % width}" for number in drawn]


def chosen_logits(lm: LanguageModel, count: int, seed: int) -> list[str]:
    """Feature strings of logits of whole words, all different: tokens of a space and three or more ASCII letters.

    Raises:
        EpoError: the vocabulary has fewer.
    """
    words: list[str] = []
    for number in np.random.default_rng(seed).permutation(min(lm.config.vocab_size, len(lm.tokenizer))):
        if len(words) == count:
            break
        text = token_texts(lm.tokenizer, [int(number)])[0]
        if not (text.startswith(" ") and text[1:].isascii() and text[1:].isalpha() and len(text) > 3):
            continue
        if lm.tokenizer.encode(text, add_special_tokens=False) == [int(number)]:
            words.append(text)
    if len(words) < count:
        raise EpoError(f"--logits={count}: the model has {len(words)} tokens of one whole word; give at most so many")
    return [f"logit:{word}" for word in words]
