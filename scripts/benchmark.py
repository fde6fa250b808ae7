"""Time an iteration and its parts, alternating with dreamy's and nanoGCG's, against what the device can do.

python scripts/benchmark.py --dreamy=dreamy --feature=L10.N5 --feature="logit: dog" --output=benchmark

measures the embedded model with the paper's settings, beside the checkout of dreamy in the folder dreamy, and prints a
Markdown table for each feature: seconds of plain evaluation, suffix-only evaluation, gradients, a whole iteration and
dreamy's iteration (medians with extremes), candidates per second, floating-point operations counted from shapes, their
share of the matrix-product ceiling measured in the same rounds, compile times and memory; then how many times as fast
one is as another, and how far an iteration is from its floor. It writes benchmark.md and benchmark.json. On a GPU

python scripts/benchmark.py --model=random:pythia-70m --dtype=bfloat16 --dreams=1,8,32,128 --dreamy=dreamy

adds the dreams per hour when as many dreams share one program.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import jax
from absl import flags
from benchmarking.rounds import measure
from benchmarking.settings import Settings, whole_numbers
from benchmarking.table import markdown

from epo_jax import command_line
from epo_jax.config import EPOConfig
from epo_jax.models.config import DTYPES

MODEL = flags.DEFINE_string("model", "smollm2-135m", "a model's name, file or folder, or random:CONFIG.json")
DTYPE = flags.DEFINE_enum("dtype", None, list(DTYPES), "by default float32 on a CPU, bfloat16 on an accelerator")
FEATURE = flags.DEFINE_multi_string("feature", ["L10.N5"], "what to maximize; may be repeated")
POPULATION = flags.DEFINE_integer("population", EPOConfig.population, "slots (P)")
CHILDREN = flags.DEFINE_integer("children", EPOConfig.children, "new prompts per slot in an iteration")
LENGTH = flags.DEFINE_integer("length", EPOConfig.length, "optimized tokens (T)")
TOP_K = flags.DEFINE_integer("top_k", EPOConfig.top_k, "tokens kept per position by gradient (K)")
PREFIX = flags.DEFINE_string("prefix", "", "frozen text before the prompt; not beside peers")
SUFFIX = flags.DEFINE_string("suffix", "", "frozen text after the prompt; not beside peers")
REPEATS = flags.DEFINE_integer("repeats", Settings.repeats, "rounds")
STEPS = flags.DEFINE_integer("steps", None, "iterations per call to the device; by default 1 to 16 by their length")
MICRO_BATCH = flags.DEFINE_integer("micro_batch", None, "rows of tokens in a block; by default what suits the device")
SEED = flags.DEFINE_integer("seed", 0, "of everything that is drawn")
DREAMS = flags.DEFINE_list("dreams", [], "numbers of dreams to advance together, as in 1,8,32")
DREAMY = flags.DEFINE_string("dreamy", None, "a checkout of github.com/Confirm-Solutions/dreamy to compare with")
DREAMY_BATCHES = flags.DEFINE_list(
    "dreamy_batches", list(map(str, Settings.dreamy_batches)), "batch sizes that dreamy tries; it keeps the fastest"
)
NANOGCG = flags.DEFINE_boolean("nanogcg", False, "whether to compare with nanoGCG, by time alone")
PEER_PYTHON = flags.DEFINE_string("peer_python", sys.executable, "Python with PyTorch and transformers, for the peers")
OUTPUT = flags.DEFINE_string("output", None, "write OUTPUT.md and OUTPUT.json")


def main() -> None:
    """Translate flags, measure, print and write."""
    # Compile times are those of a first start.
    jax.config.update("jax_enable_compilation_cache", False)
    settings = _settings()
    if settings.dreamy is not None or settings.nanogcg:
        # A device is shared with the peers, so its memory is not all ours.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    report = measure(settings, lambda line: print(line, file=sys.stderr, flush=True))
    text = markdown(report)
    print(text, end="")
    if settings.output is not None:
        Path(f"{settings.output}.md").write_text(text)
        Path(f"{settings.output}.json").write_text(json.dumps(dataclasses.asdict(report), indent=1) + "\n")


def _settings() -> Settings:
    return Settings(
        model=MODEL.value,
        dtype=DTYPE.value,
        features=tuple(FEATURE.value),
        config=EPOConfig(population=POPULATION.value, children=CHILDREN.value, length=LENGTH.value, top_k=TOP_K.value),
        repeats=REPEATS.value,
        steps=STEPS.value,
        micro_batch=MICRO_BATCH.value,
        prefix=PREFIX.value,
        suffix=SUFFIX.value,
        seed=SEED.value,
        dreams=whole_numbers("dreams", DREAMS.value),
        dreamy=DREAMY.value,
        dreamy_batches=whole_numbers("dreamy_batches", DREAMY_BATCHES.value),
        nanogcg=NANOGCG.value,
        peer_python=PEER_PYTHON.value,
        output=OUTPUT.value,
    )


if __name__ == "__main__":
    command_line.start(main, "benchmark")
