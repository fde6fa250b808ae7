"""Prompts scored whole, in batches of one shape."""

from __future__ import annotations

import time

import jax
import numpy as np
from jaxtyping import Float32, Int32

import epo_jax
from epo_jax.scoring.template import frozen_tokens
from judging.trace import Trace

BATCH = 128


def prefix_of(lm: epo_jax.LanguageModel) -> Int32[np.ndarray, " n"]:
    """The tokens that stand before every prompt: nothing, or the BOS that the tokenizer adds."""
    return frozen_tokens(lm, epo_jax.Template()).prefix


def score_whole(
    lm: epo_jax.LanguageModel, feature: epo_jax.Feature, prompts: Int32[np.ndarray, "n T"]
) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Feature and cross-entropy, nats/token, of at most `BATCH` prompts, as a search scores them."""
    filled = np.pad(prompts, ((0, BATCH - len(prompts)), (0, 0)), mode="edge")
    prefix = np.broadcast_to(prefix_of(lm), (BATCH, len(prefix_of(lm))))
    scores = epo_jax.score(lm, feature, np.concatenate([prefix, filled], axis=1), epo_jax.Template())
    values, nats = jax.device_get((scores.feature, scores.cross_entropy))
    return values[: len(prompts)], nats[: len(prompts)]


def trace_whole(
    lm: epo_jax.LanguageModel, feature: epo_jax.Feature, prompts: Int32[np.ndarray, "n T"], spent: int, began: float
) -> Trace:
    """A batch of prompts scored whole, as a part of a trace.

    Args:
        lm: the model.
        feature: what is read.
        prompts: int32[n, T], at most `BATCH`.
        spent: rows that had been run before.
        began: what `time.perf_counter` said at the start of the search.
    """
    count, length = prompts.shape
    values, nats = score_whole(lm, feature, prompts)
    rows = spent + length * np.arange(1, count + 1, dtype=np.int64)
    seconds = np.full(count, time.perf_counter() - began)
    return Trace(np.asarray(prompts, np.int32), values, nats, rows, seconds)
