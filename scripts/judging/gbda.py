"""GBDA (arXiv 2104.13733): the log-probabilities of tokens at each position, learned through Gumbel-softmax samples.

Each step draws a soft prompt of every distribution, at each position a mixture of tokens, and runs it forward and
backward; its fluency is the model's own cross-entropy of the mixtures, the expectation of their tokens' surprisal. At
intervals hard prompts are drawn, tokens instead of mixtures, and scored as any prompt is: the most likely one first.
Only those are in the trace, and the last rows of the budget are theirs.

The authors begin with a text that is to be changed little. Here nothing is given, and distributions begin as even ones;
the term that holds the prompt close to the text is left out. Distributions settle on one prompt each long before the
budget of a comparison is used, so that a long search is several runs, up to four, with noise of their own.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.axes import PRNGKey
from epo_jax.epo import Candidates, Scores
from judging.relaxed import (
    Relaxation,
    Scored,
    check_budget,
    key_of,
    relaxation_of,
    scored,
    trace_of,
)
from judging.rows import GRADIENT
from judging.task import Task
from judging.trace import Trace

# The authors' program's, as is the temperature.
LEARNING_RATE = 0.3
TEMPERATURE = 1.0
# The authors take 100 steps of ten samples each. Here a step takes one sample, so that ten times the steps fit into the
# same rows. On small random models what is drawn changes little after some 200 steps.
ENOUGH_STEPS = 150
MOST_RUNS = 4
# A quarter of the rows go to hard prompts: ten of P T rows for ten steps of three times that. The authors draw up to a
# hundred when all is learned; drawn on the way they also show what was good before a run settled.
INTERVAL, DRAWS = 10, 10

OPTIMIZER = optax.adam(LEARNING_RATE)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """What is learned of each token.

    Attributes:
        coefficients: float32[P, T, V], log-probabilities but for a constant; those of tokens that are not allowed
            mean nothing.
        optimizer: of these.
        key: of the run.
    """

    coefficients: Float32[Array, "P T V"]
    optimizer: optax.OptState
    key: PRNGKey


def gbda(task: Task) -> Trace:
    """The hard prompts that were drawn, in order.

    Raises:
        EpoError: a feature or settings that the model cannot serve, or a budget below that of one draw.
    """
    relaxation = relaxation_of(task)
    check_budget(task, relaxation.rows)
    rounds = list(_rounds(task.budget, relaxation.rows))
    per_run = _steps_per_run(sum(steps for steps, _ in rounds))
    state = _start(relaxation, key_of(task), 0)
    # Compile, and are forgotten.
    jax.block_until_ready((_step(relaxation, state, 0), _draw(relaxation, state, 0, 0)))
    parts: list[Scored] = []
    rows = done = 0
    start = time.perf_counter()
    for steps, draws in rounds:
        for _ in range(steps):
            if done % per_run == 0:
                state = _start(relaxation, key_of(task), done // per_run)
            state = _step(relaxation, state, done)
            rows, done = rows + GRADIENT * relaxation.rows, done + 1
        for number in range(draws):
            rows += relaxation.rows
            ids, scores = _draw(relaxation, state, done, number)
            parts.append(scored(ids, scores, rows))
    return trace_of(parts, start)


def _rounds(budget: int, rows: int) -> Iterator[tuple[int, int]]:
    """Steps and the draws after them, one time after another, until the budget is used.

    Args:
        budget: rows.
        rows: of a draw, a prompt for each penalty.
    """
    step = GRADIENT * rows
    whole, left = divmod(budget, INTERVAL * step + DRAWS * rows)
    for _ in range(whole):
        yield INTERVAL, DRAWS
    steps = max(0, (left - DRAWS * rows) // step)
    yield steps, (left - steps * step) // rows


def _steps_per_run(steps: int) -> int:
    """Steps from one restart to the next, whole intervals, so that the last steps of each run are drawn from."""
    runs = min(MOST_RUNS, max(1, steps // ENOUGH_STEPS))
    return -(-steps // (runs * INTERVAL)) * INTERVAL


@jax.jit
def _start(relaxation: Relaxation, key: PRNGKey, run: int | Int32[Array, ""]) -> State:
    even = jnp.zeros((relaxation.population, relaxation.length, len(relaxation.allowed)), jnp.float32)
    return State(even, OPTIMIZER.init(even), jax.random.fold_in(key, run))


@jax.jit
def _step(relaxation: Relaxation, state: State, number: int | Int32[Array, ""]) -> State:
    noise = _noise(state, number, 0)

    def loss(coefficients: Float32[Array, "P T V"]) -> Float32[Array, ""]:
        # The optimizer goes down.
        return -objectives(relaxation, mixtures(relaxation, coefficients, noise)).sum()

    gradient = jax.grad(loss)(state.coefficients)
    updates, optimizer = OPTIMIZER.update(gradient, state.optimizer)
    return State(optax.apply_updates(state.coefficients, updates), optimizer, state.key)


@jax.jit
def _draw(
    relaxation: Relaxation, state: State, step: int | Int32[Array, ""], number: int | Int32[Array, ""]
) -> tuple[Int32[Array, "P T"], Scores]:
    """Hard prompts and their scores; the first of a time are the most likely ones, the others drawn."""
    noise = jnp.where(number == 0, 0, _noise(state, step, number))
    coefficients = jnp.where(relaxation.allowed, state.coefficients, -jnp.inf)
    ids = (coefficients + noise).argmax(axis=-1).astype(jnp.int32)
    nobody = jnp.zeros(relaxation.population, jnp.int32)
    lengths = jnp.full_like(nobody, relaxation.length)
    return ids, relaxation.scorer.evaluate(None, Candidates(ids, nobody, nobody), nobody, lengths)


def _noise(state: State, step: int | Int32[Array, ""], number: int | Int32[Array, ""]) -> Float32[Array, "P T V"]:
    """Gumbel noise of a draw after so many steps; number 0 is that of the next step itself."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, step), number)
    return jax.random.gumbel(key, state.coefficients.shape)


def mixtures(
    relaxation: Relaxation, coefficients: Float32[Array, "P T V"], noise: Float32[Array, "P T V"]
) -> Float32[Array, "P T V"]:
    """Gumbel-softmax samples: the share of each token at each position, 0 for those that are not allowed."""
    noisy = jnp.where(relaxation.allowed, coefficients + noise, -jnp.inf)
    return jax.nn.softmax(noisy / TEMPERATURE, axis=-1)


def objectives(relaxation: Relaxation, shares: Float32[Array, "P T V"]) -> Float32[Array, " P"]:
    """The objective of prompts of mixtures of tokens."""
    table, first = relaxation.table, relaxation.scorer.first_scored
    largest = shares.argmax(axis=-1).astype(jnp.int32)
    feature, logits = relaxation.between(largest, shares @ table - table[largest])
    # Of rows that are no token the logit is minus infinity.
    expected = (shares[:, first:] * jnp.where(relaxation.allowed, logits, 0)).sum(axis=-1)
    nats = jax.nn.logsumexp(logits, axis=-1) - expected
    return feature - relaxation.penalties * nats.mean(axis=-1)
