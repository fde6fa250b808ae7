"""Hold suffix-only evaluation against plain evaluation of the same random candidates.

python scripts/check_suffix_evaluation.py --model=smollm2-135m --candidates=10000 --output=docs/suffix_evaluation.md

scores random candidates, whose first edits are everywhere in the prompt, both ways: with and without a template, as
one block and as many, neurons of three depths and logits read at the last token and as a maximum. It prints a Markdown
table with the largest differences, and exits with 1 if one is above 1e-4 (nats/token, and of the greatest feature).
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import epo_jax
from epo_jax import command_line
from epo_jax.epo import Candidates, Scores
from epo_jax.errors import EpoError
from epo_jax.features import Feature
from epo_jax.features.logit import LogitDifference
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.scoring import Template
from epo_jax.scoring.assemble import scorer_for, stack_features
from epo_jax.scoring.packing import default_blocks
from epo_jax.scoring.scorer import LanguageModelScorer
from epo_jax.scoring.template import frozen_tokens

MODEL = flags.DEFINE_string("model", "smollm2-135m", "a model's name, file or folder, or random:CONFIG.json")
CANDIDATES = flags.DEFINE_integer("candidates", 10_000, "random candidates in all", lower_bound=8)
LENGTH = flags.DEFINE_integer("length", 12, "optimized tokens (T)", lower_bound=2)
SEED = flags.DEFINE_integer("seed", 0, "of the random tokens")
OUTPUT = flags.DEFINE_string("output", None, "write the table to this file too")

TEMPLATES = {
    "none": Template(bos="never"),
    "prefix and suffix": Template(prefix="A friend of mine", suffix=" is what"),
}
READINGS = ("last", "max")
# Candidates that are scored at a time, and rows of a block that many of them make into one.
AT_ONCE, MANY = 250, 512
PARENTS = 16
TOLERANCE = 1e-4


@jax.jit
def plain(scorer: LanguageModelScorer, candidates: Candidates, length: jax.Array) -> Scores:
    """Scores of whole prompts."""
    return scorer.evaluate(None, candidates, jnp.zeros_like(length), length)


@jax.jit
def suffix_only(
    scorer: LanguageModelScorer, parents: jax.Array, dream: jax.Array, candidates: Candidates, first: jax.Array
) -> Scores:
    """Scores of the tokens from the first edit on, beside the parents' rows."""
    _, rows = scorer.gradients(parents, jnp.ones(len(parents)), dream)
    length = jnp.full_like(first, candidates.ids.shape[1])
    return scorer.evaluate(rows, candidates, first, length)


def features_of(lm: epo_jax.LanguageModel, tokens: np.ndarray) -> dict[str, Feature]:
    """Neurons of the first, a middle and the last layer, and logits of three tokens, each as one stack."""
    layers = (0, lm.config.layers // 2, lm.config.layers - 1)
    neurons = [epo_jax.parse_feature(f"L{layer}.N5", lm) for layer in layers]
    label = epo_jax.parse_feature("L0.N0", lm).label  # type: ignore[attr-defined]
    logits: list[Feature] = [LogitDifference(jnp.int32(token), label) for token in tokens[:3]]
    return {"neurons": stack_features(neurons), "logits": stack_features(logits)}


def draw(rng: np.random.Generator, tokens: np.ndarray, count: int, length: int) -> tuple[np.ndarray, ...]:
    """Parents with their dreams, and candidates that differ from them in one token or in all from one on."""
    parents, dream = rng.choice(tokens, (PARENTS, length)), rng.integers(0, 3, PARENTS)
    parent, first = rng.integers(0, PARENTS, count), rng.integers(0, length, count)
    changed = np.arange(length) >= first[:, None]
    changed[::2] = np.arange(length) == first[::2, None]
    ids = np.where(changed, rng.choice(tokens, (count, length)), parents[parent])
    return tuple(a.astype(np.int32) for a in (parents, dream, ids, parent, dream[parent], first))


def main() -> None:
    """Draw, score both ways, print."""
    lm = epo_jax.load_model(MODEL.value, dtype="float32")
    rng = np.random.default_rng(SEED.value)
    tokens = np.flatnonzero(allowed_tokens(lm.tokenizer, lm.config.vocab_size))
    features, length = features_of(lm, rng.permutation(tokens)), LENGTH.value
    cases = list(itertools.product(TEMPLATES, features, READINGS, ("one", "many")))
    count = min(AT_ONCE, -(-CANDIDATES.value // len(cases)))
    rounds = -(-CANDIDATES.value // (len(cases) * count))
    lines = [
        f"{rounds * count * len(cases):,} candidates of {length} tokens, {MODEL.value}, float32.",
        "",
        "| template | feature | read | blocks | candidates | cross-entropy, nats/token | feature / greatest feature |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    worst = 0.0
    platform = jax.devices()[0].platform
    for template, kind, read, blocks in cases:
        frozen = frozen_tokens(lm, TEMPLATES[template])
        most = default_blocks(count, length, len(frozen.suffix), platform, None if blocks == "one" else MANY)
        scorer = scorer_for(lm, features[kind], frozen, read, length, most)
        nats = feature = 0.0
        for _ in range(rounds):
            parents, dream, ids, parent, of, first = map(jnp.asarray, draw(rng, tokens, count, length))
            candidates = Candidates(ids, parent, of)
            expected = plain(scorer, candidates, jnp.full_like(first, length))
            found = suffix_only(scorer, parents, dream, candidates, first)
            nats = max(nats, float(np.abs(found.cross_entropy - expected.cross_entropy).max()))
            greatest = np.abs(expected.feature).max()
            feature = max(feature, float(np.abs(found.feature - expected.feature).max() / greatest))
        lines.append(f"| {template} | {kind} | {read} | {blocks} | {rounds * count:,} | {nats:.1e} | {feature:.1e} |")
        print(lines[-1], file=sys.stderr, flush=True)
        worst = max(worst, nats, feature)
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if OUTPUT.value:
        try:
            Path(OUTPUT.value).write_text(text, encoding="utf-8")
        except OSError as error:
            raise EpoError(f"--output={OUTPUT.value}: cannot be written ({error})") from error
    # Written so that NaN fails.
    sys.exit(0 if worst <= TOLERANCE else 1)


if __name__ == "__main__":
    command_line.start(main, "check_suffix_evaluation")
