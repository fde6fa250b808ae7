"""Prompts that nobody searches for: uniformly drawn tokens, and what the model writes itself."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

import epo_jax
from epo_jax.epo.mutate import random_prompts
from epo_jax.models.sampling import sample
from epo_jax.models.tokenizers import allowed_tokens
from judging.scoring import BATCH, prefix_of, score_whole, trace_whole
from judging.task import Task
from judging.trace import Trace


def random(task: Task) -> Trace:
    """Prompts of uniformly drawn allowed tokens, each scored whole."""
    lm, length = task.lm, task.config.length
    feature = epo_jax.parse_feature(task.feature, lm)
    allowed = jnp.asarray(allowed_tokens(lm.tokenizer, lm.config.vocab_size))
    prompts = np.asarray(random_prompts(_key(task), allowed, task.budget // length, length))
    score_whole(lm, feature, prompts[:BATCH])
    began = time.perf_counter()
    parts = []
    for start in range(0, len(prompts), BATCH):
        parts.append(trace_whole(lm, feature, prompts[start : start + BATCH], start * length, began))
    return Trace.joined(parts)


def samples(task: Task) -> Trace:
    """What the model writes by itself at temperature 1, each text then scored whole."""
    lm, length = task.lm, task.config.length
    feature, prefix = epo_jax.parse_feature(task.feature, lm), prefix_of(lm)
    count = task.budget // (2 * length)

    def drawn(batch: int) -> np.ndarray:
        return sample(lm, prefix, jax.random.fold_in(_key(task), batch), BATCH, length)

    score_whole(lm, feature, drawn(0))
    began = time.perf_counter()
    parts = []
    for batch, start in enumerate(range(0, count, BATCH)):
        prompts = drawn(batch)[: count - start]
        # All texts of a batch are written before the first of them is scored.
        spent = 2 * start * length + prompts.size
        parts.append(trace_whole(lm, feature, prompts, spent, began))
    return Trace.joined(parts)


def _key(task: Task) -> jax.Array:
    return jax.random.key(task.seed, impl="threefry2x32")
