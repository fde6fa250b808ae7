"""Find a prompt that makes a model say a text, beside nanoGCG on the same weights, start and number of candidates.

python scripts/compare_gcg.py --target=" The sky is blue." --output=docs/gcg_comparison.md

needs nanogcg (and PyTorch) in --peer_python. It runs our search with one slot and no fluency penalty, which is GCG,
then nanoGCG, for each seed, and writes a Markdown table: steps and seconds to each loss, seconds per step, the prompts
found and what the model goes on to say after them. The losses of prompts are computed by both.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from benchmarking.settings import peer_source
from jaxtyping import Int

import epo_jax
from epo_jax import command_line
from epo_jax.errors import EpoError

MODEL = flags.DEFINE_string("model", "smollm2-135m", "the model")
PREFIX = flags.DEFINE_string("prefix", "", "frozen text before the prompt")
SUFFIX = flags.DEFINE_string("suffix", "", "frozen text after the prompt")
TARGET = flags.DEFINE_string("target", " The sky is blue.", "what the model is to say, verbatim")
LENGTH = flags.DEFINE_integer("length", 12, "optimized tokens")
STEPS = flags.DEFINE_integer("steps", 60, "steps of each search")
CANDIDATES = flags.DEFINE_integer("candidates", 64, "prompts scored in a step")
TOP_K = flags.DEFINE_integer("top_k", 256, "tokens kept per position")
SEEDS = flags.DEFINE_integer("seeds", 2, "searches of each")
LOSSES = flags.DEFINE_list("losses", ["3", "2", "1", "0.5", "0.2"], "losses whose steps and seconds are told")
PEER_PYTHON = flags.DEFINE_string("peer_python", sys.executable, "Python that has nanogcg")
OUTPUT = flags.DEFINE_string("output", "gcg_comparison.md", "Markdown file to write")

PEER = Path(__file__).resolve().parent / "peers" / "run_nanogcg.py"


@dataclasses.dataclass(frozen=True)
class Search:
    """One search: the least loss up to each step, seconds of a step, and the prompt found."""

    name: str
    seed: int
    best: Any
    seconds: float
    ids: list[int]

    def steps_to(self, loss: float) -> int | None:
        """The first step with a loss at most this; None if there is none."""
        reached = np.flatnonzero(self.best <= loss)
        return int(reached[0]) + 1 if len(reached) else None


def ours(lm: epo_jax.LanguageModel, seed: int, start: str) -> Search:
    """One search with one slot and no fluency penalty."""
    config = epo_jax.EPOConfig(
        iterations=STEPS.value,
        population=1,
        children=CANDIDATES.value,
        length=LENGTH.value,
        top_k=TOP_K.value,
        lambda_min=0.0,
        lambda_max=0.0,
        restart_every=0,
    )
    paces: list[float] = []

    def note(told: epo_jax.Progress) -> bool:
        paces.append(told.candidates_per_second)
        return False

    template = epo_jax.Template(PREFIX.value, SUFFIX.value)
    feature = f"continuation:{TARGET.value}"
    result = epo_jax.dream(lm, feature, config, seed=seed, template=template, init_text=start, callback=note)
    history = result.history
    losses = [-history.feature[history.iteration == step].max() for step in range(1, STEPS.value + 1)]
    found = history.ids[np.argmax(history.feature)].tolist()
    return Search("epo_jax", seed, np.minimum.accumulate(losses), CANDIDATES.value / paces[-1], found)


def peers(lm: epo_jax.LanguageModel, start: str, prompts: list[list[int]]) -> tuple[list[Search], list[float]]:
    """The searches of nanoGCG, and the losses that it gives some prompts.

    Raises:
        EpoError: it ended with an error; says its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        lm.tokenizer.save_pretrained(folder)
        task = {
            "source": peer_source(MODEL.value),
            "device": "cpu",
            "dtype": lm.config.dtype,
            "seed": 0,
            "tokenizer": folder,
            "prefix": PREFIX.value,
            "suffix": SUFFIX.value,
            "target": TARGET.value,
            "start": start,
            "steps": STEPS.value,
            "candidates": CANDIDATES.value,
            "top_k": TOP_K.value,
            "seeds": list(range(SEEDS.value)),
            "score": prompts,
        }
        done = subprocess.run(
            [PEER_PYTHON.value, str(PEER)],
            input=json.dumps(task) + "\n",
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise EpoError(f"--peer_python={PEER_PYTHON.value}: nanoGCG ended: {said[-1] if said else 'it said nothing'}")
    told = json.loads(done.stdout)
    searches = []
    for seed, run in enumerate(told["runs"]):
        ids = lm.tokenizer.encode(run["best"], add_special_tokens=False)
        seconds = float(np.median(run["seconds"]))
        searches.append(Search("nanoGCG", seed, np.minimum.accumulate(run["losses"]), seconds, ids))
    return searches, told["losses"]


def continuation(lm: epo_jax.LanguageModel, ids: list[int], count: int) -> str:
    """What the model says after a prompt, the likeliest token each time."""
    encode = lm.tokenizer.encode
    tokens = [*encode(PREFIX.value), *ids, *encode(SUFFIX.value, add_special_tokens=False)]
    for _ in range(count):
        tokens.append(int(np.asarray(epo_jax.logits(lm, [tokens]))[0, -1].argmax()))
    return str(lm.tokenizer.decode(tokens[-count:]))


def start_text(lm: epo_jax.LanguageModel) -> str:
    """A text of as many tokens as are optimized.

    Raises:
        EpoError: none was found.
    """
    for text in (" ".join(["x"] * LENGTH.value), " ".join(["!"] * LENGTH.value), "!" * LENGTH.value):
        if len(lm.tokenizer.encode(text, add_special_tokens=False)) == LENGTH.value:
            return text
    raise EpoError(f"--length={LENGTH.value}: found no text of so many equal tokens to start from")


def losses_of(lm: epo_jax.LanguageModel, prompts: Int[np.ndarray, "B T"]) -> list[float]:
    """The loss of prompts as we compute it."""
    encode = lm.tokenizer.encode
    before, after = encode(PREFIX.value), encode(SUFFIX.value, add_special_tokens=False)
    whole = [[*before, *prompt, *after] for prompt in prompts.tolist()]
    feature = epo_jax.parse_feature(f"continuation:{TARGET.value}", lm)
    return [-float(value) for value in epo_jax.score(lm, feature, whole).feature]


def main() -> None:
    """Search with both, and write the table."""
    lm = epo_jax.load_model(MODEL.value, "float32")
    start = start_text(lm)
    searches = [ours(lm, seed, start) for seed in range(SEEDS.value)]
    rng = np.random.default_rng(0)
    random = rng.integers(1, lm.config.vocab_size - 1, (8, LENGTH.value))
    prompts = np.concatenate([random, [search.ids for search in searches]])
    theirs, their_losses = peers(lm, start, prompts.tolist())
    difference = np.abs(np.asarray(losses_of(lm, prompts)) - their_losses).max()
    levels = [float(level) for level in LOSSES.value]
    count = len(lm.tokenizer.encode(TARGET.value, add_special_tokens=False))
    lines = [
        f"# {MODEL.value}: `continuation:{TARGET.value}` beside nanoGCG",
        "",
        f"{STEPS.value} steps of {CANDIDATES.value} candidates of {LENGTH.value} tokens, top {TOP_K.value}, from "
        f"{start!r}; prefix {PREFIX.value!r}, suffix {SUFFIX.value!r}. Steps (seconds) to a loss of at most:",
        "",
        "| search | seed | " + " | ".join(LOSSES.value) + " | least loss | seconds per step | greedy continuation |",
        "| --- | ---: |" + " ---: |" * (len(levels) + 2) + " --- |",
    ]
    for search in [*searches, *theirs]:
        cells = []
        for level in levels:
            steps = search.steps_to(level)
            cells.append("never" if steps is None else f"{steps} ({steps * search.seconds:.0f} s)")
        said = continuation(lm, search.ids, count)
        same = "the target" if said == TARGET.value else f"`{said!r}`"
        lines.append(
            f"| {search.name} | {search.seed} | {' | '.join(cells)} | {search.best[-1]:.3f} | {search.seconds:.2f} | "
            f"{same} |"
        )
    lines += ["", f"The losses of {len(prompts)} prompts, random ones among them, differ by at most {difference:.1e}."]
    lines += ["", *(f"- {search.name}, seed {search.seed}: {lm.tokenizer.decode(search.ids)!r}" for search in searches)]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(OUTPUT.value).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    command_line.start(main, "compare_gcg")
