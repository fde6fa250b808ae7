"""Results that nobody dreamed: random prompts with random numbers, which take no program to compile."""

from __future__ import annotations

import numpy as np

import epo_jax
from epo_jax.dream.frontier import frontier_of
from epo_jax.dream.history import History
from epo_jax.dream.run import Run
from epo_jax.models.tokenizers import texts_by_id


def made(
    lm: epo_jax.LanguageModel,
    feature: str = "L1.N5",
    seed: int = 4,
    template: epo_jax.Template | None = None,
    iterations: int = 7,
    length: int = 5,
) -> epo_jax.Result:
    """A result of three prompts and twelve more in each iteration."""
    rng, template = np.random.default_rng(seed), template or epo_jax.Template()
    count = 3 + 12 * iterations
    history = History(
        rng.integers(5, 90, (count, length)).astype(np.int32),
        rng.normal(size=count).astype(np.float32),
        rng.uniform(2, 12, count).astype(np.float32),
        np.r_[np.zeros(3, np.int32), np.repeat(np.arange(1, iterations + 1, dtype=np.int32), 12)],
    )
    run = Run(
        model=lm.source,
        feature=feature,
        search=epo_jax.EPOConfig(iterations=iterations, population=3, children=4, length=length, top_k=40),
        seed=seed,
        dtype="float32",
        prefix=template.prefix,
        suffix=template.suffix,
        bos=template.bos,
        init_text=None,
        versions={},
    )
    frontier = frontier_of(history, lm.tokenizer)
    return epo_jax.Result(frontier, history, run, token_texts=texts_by_id(lm.tokenizer, history.ids))
