"""Searches that an `EPOConfig` describes: the paper's, and greedy coordinate gradient (GCG)."""

from __future__ import annotations

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32
from numpy.typing import ArrayLike

import epo_jax
from epo_jax.epo.state import Info
from epo_jax.scoring.scale import NONE
from judging.rows import GRADIENT
from judging.task import Task
from judging.trace import Trace


@dataclasses.dataclass(frozen=True, eq=False)
class Starts:
    """What a search starts from.

    Attributes:
        ids: int32[P, T].
        rows: that finding them took, beside scoring them.
    """

    ids: Int32[np.ndarray, "P T"]
    rows: int


def paper(task: Task) -> Trace:
    """Evolutionary Prompt Optimization exactly as the paper has it."""
    return evolved(task, task.config)


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


def evolved(task: Task, config: epo_jax.EPOConfig, starts: Starts | None = None, scale: str | float = NONE) -> Trace:
    """Search until the budget is used.

    Args:
        task: what for, with which budget.
        config: settings of the search, whose iterations do not count.
        starts: initial prompts; by default random ones, which take no rows to find.
        scale: what objectives take the feature against, as `epo_jax.build` has it.
    """
    algorithm = epo_jax.build(task.lm, epo_jax.parse_feature(task.feature, task.lm), config, scale=scale)
    key = jax.random.key(task.seed, impl="threefry2x32")
    ids = None if starts is None else jnp.asarray(starts.ids, jnp.int32)
    # Compiled before the clock runs.
    jax.block_until_ready(algorithm.step(algorithm.init(key, ids)))
    began = time.perf_counter()
    state = algorithm.init(key, ids)
    spent = 0 if starts is None else starts.rows
    initial = np.full(config.population, config.length)
    parts = [_part(state.ids, state.feature, state.cross_entropy, spent + np.cumsum(initial), began)]
    spent += int(initial.sum())
    while spent < task.budget:
        state, info = algorithm.step(state)
        part, spent = _iteration(info, config, spent, began)
        parts.append(part)
    return Trace.joined(parts).until(task.budget)


def _iteration(info: Info, config: epo_jax.EPOConfig, spent: int, began: float) -> tuple[Trace, int]:
    """The children of an iteration, and all rows that were run up to its end."""
    scored = np.asarray(info.scored)
    ids, feature, cross_entropy, first_edit = (
        part[scored] for part in jax.device_get((info.ids, info.feature, info.cross_entropy, info.first_edit))
    )
    # Gradients come before the first child.
    spent += config.population * GRADIENT * config.length
    rows = spent + np.cumsum(config.length - first_edit.astype(np.int64))
    return _part(ids, feature, cross_entropy, rows, began), int(rows.max(initial=spent))


def _part(ids: ArrayLike, feature: ArrayLike, cross_entropy: ArrayLike, rows: np.ndarray, began: float) -> Trace:
    values = np.asarray(feature, np.float32)
    seconds = np.full(len(values), time.perf_counter() - began)
    return Trace(
        np.asarray(ids, np.int32), values, np.asarray(cross_entropy, np.float32), rows.astype(np.int64), seconds
    )
