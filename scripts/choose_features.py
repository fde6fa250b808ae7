"""Features that a seed chooses, so that nobody does.

python scripts/choose_features.py --model=smollm2-135m --neurons=16 --logits=8 --seed=0 > chosen.txt

prints a feature string a line, as --features_file of scripts/sweep.py and scripts/scan_corpus.py takes them: neurons,
each as likely as any other of the model, and logits of whole words.
"""

from __future__ import annotations

import numpy as np
from absl import flags

import epo_jax
from epo_jax import EpoError, command_line
from epo_jax.models import LanguageModel
from epo_jax.models.tokenizers import token_texts

MODEL = flags.DEFINE_string("model", "smollm2-135m", "embedded model's name, .gguf file, folder, or hub id")
NEURONS = flags.DEFINE_integer("neurons", 16, "how many neurons", lower_bound=0)
LOGITS = flags.DEFINE_integer("logits", 8, "how many logits", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "of the choice", lower_bound=0)


def main() -> None:
    """Choose and print."""
    lm = epo_jax.load_model(MODEL.value)
    for name in [*chosen_neurons(lm, NEURONS.value, SEED.value), *chosen_logits(lm, LOGITS.value, SEED.value)]:
        print(name)


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


if __name__ == "__main__":
    command_line.start(main, "choose_features")
