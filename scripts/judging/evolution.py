"""Searches that an `EPOConfig` describes: the paper's, ours, and greedy coordinate gradient (GCG)."""

from __future__ import annotations

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int32
from numpy.typing import ArrayLike

import epo_jax
from epo_jax.config import BEST
from epo_jax.dream.preparation import guided_starts
from epo_jax.dream.start_pool import start_rows
from epo_jax.epo.state import Info
from judging.relaxed import check_budget
from judging.task import Task
from judging.trace import Trace


def paper(task: Task) -> Trace:
    """Evolutionary Prompt Optimization exactly as the paper has it."""
    return evolved(task, task.config)


def best(task: Task) -> Trace:
    """The search that `search="best"` stands for; how it starts is part of it."""
    return evolved(task, dataclasses.replace(task.config, search=BEST))


def gcg(task: Task) -> Trace:
    """One slot without a fluency penalty and without restarts, and as many children as all slots have."""
    config = dataclasses.replace(
        task.config,
        population=1,
        children=task.config.population * task.config.children,
        lambda_min=0.0,
        lambda_max=0.0,
        restart_every=0,
    )
    return evolved(task, config)


def evolved(task: Task, config: epo_jax.EPOConfig) -> Trace:
    """Search until the budget is used.

    Args:
        task: what for, with which budget.
        config: settings of the search, whose iterations do not count.

    Raises:
        EpoError: settings that the model cannot serve, or a budget below what starting takes.
    """
    beginnings = 1 if config.options is None else config.options.beginnings
    check_budget(task, start_rows(config) + beginnings * config.population * config.length)
    algorithm = epo_jax.build(task.lm, epo_jax.parse_feature(task.feature, task.lm), config)
    key = jax.random.key(task.seed, impl="threefry2x32")
    # Compiled before the clock runs.
    jax.block_until_ready(algorithm.step(algorithm.init(key, _starts(task, config, algorithm))))
    began = time.perf_counter()
    state = algorithm.init(key, _starts(task, config, algorithm))
    spent, (ids, feature, cross_entropy) = start_rows(config), _first(state)
    parts = [_part(ids, feature, cross_entropy, spent + config.length * (1 + np.arange(len(ids))), began)]
    spent += config.length * len(ids)
    while spent < task.budget:
        state, info = algorithm.step(state)
        part, spent = _iteration(info, spent, began)
        parts.append(part)
    return Trace.joined(parts).until(task.budget)


def _first(state: epo_jax.State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All initial prompts of a dream, those of later beginnings included, with their scores."""
    names = ("ids", "feature", "cross_entropy")
    parts = [state, None if state.memory is None else state.memory.waiting]
    ids, feature, cross_entropy = (
        np.concatenate([np.asarray(getattr(part, name)) for part in parts if part is not None]) for name in names
    )
    return ids, feature, cross_entropy


def _starts(task: Task, config: epo_jax.EPOConfig, algorithm: epo_jax.Algorithm) -> Int32[Array, "n T"] | None:
    """What a search with a guide starts from; None for random prompts."""
    starts = guided_starts(task.lm, _listed(algorithm), config, [task.seed])
    return None if starts is None else jnp.asarray(starts[0])


def _listed(algorithm: epo_jax.Algorithm) -> epo_jax.Algorithm:
    """The same search as a list of one dream."""
    return dataclasses.replace(algorithm, dreams=1)


def _iteration(info: Info, spent: int, began: float) -> tuple[Trace, int]:
    """The children of an iteration, which are all known at its end, and all rows that were run up to there."""
    scored, rows = np.asarray(info.scored), spent + int(info.rows)
    ids, feature, cross_entropy = (
        part[scored] for part in jax.device_get((info.ids, info.feature, info.cross_entropy))
    )
    return _part(ids, feature, cross_entropy, np.full(len(ids), rows), began), rows


def _part(ids: ArrayLike, feature: ArrayLike, cross_entropy: ArrayLike, rows: np.ndarray, began: float) -> Trace:
    values = np.asarray(feature, np.float32)
    seconds = np.full(len(values), time.perf_counter() - began)
    return Trace(
        np.asarray(ids, np.int32), values, np.asarray(cross_entropy, np.float32), rows.astype(np.int64), seconds
    )
