"""Features that a seed chooses, so that nobody does.

python scripts/choose_features.py --model=smollm2-135m --neurons=16 --logits=8 --seed=0 > chosen.txt

prints a feature string a line, as --features_file of scripts/sweep.py and scripts/scan_corpus.py takes them: neurons,
each as likely as any other of the model, and logits of whole words.
"""

from __future__ import annotations

from absl import flags

import epo_jax
from epo_jax import command_line
from epo_jax.features.choosing import chosen_logits, chosen_neurons

MODEL = flags.DEFINE_string("model", "smollm2-135m", "embedded model's name, .gguf file, folder, or hub id")
NEURONS = flags.DEFINE_integer("neurons", 16, "how many neurons", lower_bound=0)
LOGITS = flags.DEFINE_integer("logits", 8, "how many logits", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "of the choice", lower_bound=0)


def main() -> None:
    """Choose and print."""
    lm = epo_jax.load_model(MODEL.value)
    for name in [*chosen_neurons(lm, NEURONS.value, SEED.value), *chosen_logits(lm, LOGITS.value, SEED.value)]:
        print(name)


if __name__ == "__main__":
    command_line.start(main, "choose_features")
