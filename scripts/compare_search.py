"""Compare EPO with random search and GCG on the same number of scored prompts.

python scripts/compare_search.py --seeds=2 --output=docs/search_comparison.md

dreams three neurons of different layers of the embedded model, chosen by a seed, and writes a Markdown table: for each
neuron and method the greatest feature value, and the greatest with a cross-entropy below 6 nats/token. Each finished
search is appended to a JSON-lines file beside the output, and is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import epo_jax
from epo_jax import command_line
from epo_jax.dream.progress import FLUENT_BELOW
from epo_jax.epo.mutate import random_prompts
from epo_jax.models.tokenizers import allowed_tokens

MODEL = flags.DEFINE_string("model", "smollm2-135m", "the model")
SEEDS = flags.DEFINE_integer("seeds", 1, "searches of each method and neuron")
ITERATIONS = flags.DEFINE_integer("iterations", 60, "iterations of each search")
CHILDREN = flags.DEFINE_integer("candidates", 64, "prompts scored in an iteration; a multiple of 8")
OUTPUT = flags.DEFINE_string("output", "search_comparison.md", "Markdown file to write")

Scored = tuple[np.ndarray, np.ndarray]
Method = Callable[[epo_jax.LanguageModel, str, int], Scored]


def neurons(lm: epo_jax.LanguageModel) -> list[str]:
    """One neuron out of each third of the layers, drawn by a seed."""
    rng = np.random.default_rng(0)
    thirds = np.array_split(np.arange(lm.config.layers), 3)
    return [f"L{rng.choice(third)}.N{rng.integers(lm.config.mlp_width)}" for third in thirds]


def epo(lm: epo_jax.LanguageModel, feature: str, seed: int) -> Scored:
    """The paper's search with 8 slots."""
    return _dream(lm, feature, seed, epo_jax.EPOConfig(iterations=ITERATIONS.value, children=CHILDREN.value // 8))


def gcg(lm: epo_jax.LanguageModel, feature: str, seed: int) -> Scored:
    """One slot without a fluency penalty and without restarts."""
    config = epo_jax.EPOConfig(
        iterations=ITERATIONS.value,
        population=1,
        children=CHILDREN.value,
        lambda_min=0.0,
        lambda_max=0.0,
        restart_every=0,
    )
    return _dream(lm, feature, seed, config)


def random_swaps(lm: epo_jax.LanguageModel, feature: str, seed: int) -> Scored:
    """The paper's search without the gradient's choice: every allowed token is kept, so swaps are uniform."""
    config = epo_jax.EPOConfig(iterations=ITERATIONS.value, children=CHILDREN.value // 8, top_k=lm.config.vocab_size)
    return _dream(lm, feature, seed, config)


def random_search(lm: epo_jax.LanguageModel, feature: str, seed: int) -> Scored:
    """Prompts of uniformly drawn allowed tokens."""
    parsed = epo_jax.parse_feature(feature, lm)
    allowed = jnp.asarray(allowed_tokens(lm.tokenizer, lm.config.vocab_size))
    prompts = random_prompts(jax.random.key(seed), allowed, 8 + ITERATIONS.value * CHILDREN.value, 12)
    parts = [epo_jax.score(lm, parsed, part) for part in np.array_split(np.asarray(prompts), ITERATIONS.value)]
    return (
        np.concatenate([part.feature for part in parts]),
        np.concatenate([part.cross_entropy for part in parts]),
    )


METHODS: dict[str, Method] = {
    "EPO": epo,
    "GCG": gcg,
    "random swaps, EPO's selection": random_swaps,
    "random search": random_search,
}


def _dream(lm: epo_jax.LanguageModel, feature: str, seed: int, config: epo_jax.EPOConfig) -> Scored:
    history = epo_jax.dream(lm, feature, config, seed=seed).history
    return history.feature, history.cross_entropy


def summary(scored: Scored) -> dict[str, float]:
    """Number of prompts, greatest value, and greatest value among fluent prompts (-inf where there is none)."""
    feature, cross_entropy = scored
    fluent = feature[cross_entropy < FLUENT_BELOW]
    return {"scored": len(feature), "best": float(feature.max()), "fluent": float(fluent.max(initial=-np.inf))}


def table(rows: list[dict[str, object]], features: list[str]) -> str:
    """Markdown: a row per method, two columns per neuron, means over seeds."""
    lines = [
        "| method | scored | "
        + " | ".join(f"{f} best | {f} best below {FLUENT_BELOW:g} nats" for f in features)
        + " |",
        "| --- | ---: |" + " ---: | ---: |" * len(features),
    ]
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        if not mine:
            continue
        cells = [f"{mine[0]['scored']:,}"]
        for feature in features:
            for name in ("best", "fluent"):
                values = [float(str(row[name])) for row in mine if row["feature"] == feature]
                mean = np.mean(values) if values else np.nan
                cells.append(f"{mean:.2f}" if np.isfinite(mean) else "none" if values else "")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not there yet, and write the table after each search."""
    lm = epo_jax.load_model(MODEL.value, dtype="float32")
    output = Path(OUTPUT.value)
    log = output.with_suffix(".jsonl")
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    features = neurons(lm)
    for seed in range(SEEDS.value):
        for feature in features:
            for method, search in METHODS.items():
                run = {
                    "method": method,
                    "feature": feature,
                    "seed": seed,
                    "model": MODEL.value,
                    "iterations": ITERATIONS.value,
                    "candidates": CHILDREN.value,
                }
                if not any(run.items() <= row.items() for row in rows):
                    rows.append({**run, **summary(search(lm, feature, seed))})
                    with log.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                    print(rows[-1], flush=True)
                output.write_text(table(rows, features) + "\n")
    print(table(rows, features))


if __name__ == "__main__":
    command_line.start(main, "compare_search")
