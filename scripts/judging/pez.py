"""PEZ (arXiv 2302.03668): embeddings that are free to move, scored and differentiated at the tokens nearest to them.

Each step finds the allowed token next to every point, runs the prompt of these tokens forward and backward, and moves
the points, not the tokens, along that gradient. The prompt's score comes out of the same forward pass, so that a step
costs 3 P T rows and nothing is run besides. As in the authors' program "next to" is the greatest cosine, points start
at random tokens, and there are no restarts: points find new prompts as long as they move.

One thing is ours, for otherwise prompts would hardly become fluent. A token is also the label that its predecessor is
scored against, which the authors' program leaves out of the gradient. A label's logit is no function of embeddings; the
linear function that is closest to the logits of all allowed tokens takes its place (with a tied head it is the logit).
"""

from __future__ import annotations

import dataclasses
import time

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float32, Int32

from epo_jax.axes import PRNGKey
from epo_jax.epo import Scores
from epo_jax.epo.mutate import random_prompts
from epo_jax.scoring.forward import surprisal
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

# In units of the embedding's coordinates (their root mean square): the authors' 0.1 for CLIP and 0.3 for GPT-2 mean
# something else for each embedding. On small random models 0.3 does as well, and 0.1 worse.
LEARNING_RATE = 1.0
# The authors' for AdamW.
WEIGHT_DECAY = 0.1
# Added to the variances of the embeddings' coordinates, as a share of their mean: in directions in which tokens hardly
# differ, a fit to their logits says nothing.
RIDGE = 1e-3

OPTIMIZER = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Geometry:
    """What is known of the embeddings of the allowed tokens.

    Attributes:
        unit: root mean square of their coordinates.
        norms: float32[V], the length of each; above 0.
        inverse: float32[D, D], the inverse of their scatter about their mean.
    """

    unit: Float32[Array, ""]
    norms: Float32[Array, " V"]
    inverse: Float32[Array, "D D"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Where the points are.

    Attributes:
        points: float32[P, T, D], in units of the embedding's coordinates.
        optimizer: of these.
    """

    points: Float32[Array, "P T D"]
    optimizer: optax.OptState


def pez(task: Task) -> Trace:
    """The prompts that the points were next to, step by step.

    Raises:
        EpoError: a feature or settings that the model cannot serve, or a budget below one step's.
    """
    relaxation = relaxation_of(task)
    cost = GRADIENT * relaxation.rows
    check_budget(task, cost)
    geometry = _geometry(relaxation)
    state = _start(relaxation, geometry, key_of(task))
    # Compiles, and is forgotten.
    jax.block_until_ready(_step(relaxation, geometry, state))
    parts: list[Scored] = []
    start = time.perf_counter()
    for step in range(1, task.budget // cost + 1):
        state, ids, scores = _step(relaxation, geometry, state)
        parts.append(scored(ids, scores, step * cost))
    return trace_of(parts, start)


@jax.jit
def _geometry(relaxation: Relaxation) -> Geometry:
    table, allowed = relaxation.table, relaxation.allowed[:, None]
    count = allowed.sum()
    mean = jnp.where(allowed, table, 0).sum(axis=0) / count
    centered = jnp.where(allowed, table - mean, 0)
    scatter = jnp.matmul(centered.T, centered, precision=jax.lax.Precision.HIGHEST)
    ridge = RIDGE * jnp.trace(scatter) / len(scatter)
    squares = (table**2).sum(axis=1)
    return Geometry(
        unit=jnp.sqrt(jnp.where(relaxation.allowed, squares, 0).sum() / (count * table.shape[1])),
        # An embedding without a length has no direction, and is next to nothing.
        norms=jnp.where(squares > 0, jnp.sqrt(squares), jnp.inf),
        inverse=jnp.linalg.inv(scatter + ridge * jnp.eye(len(scatter))),
    )


@jax.jit
def _start(relaxation: Relaxation, geometry: Geometry, key: PRNGKey) -> State:
    ids = random_prompts(key, relaxation.allowed, relaxation.population, relaxation.length)
    points = relaxation.table[ids] / geometry.unit
    return State(points, OPTIMIZER.init(points))


@jax.jit
def _step(relaxation: Relaxation, geometry: Geometry, state: State) -> tuple[State, Int32[Array, "P T"], Scores]:
    """One step; the prompts are those before it."""
    ids = nearest(relaxation, geometry, state.points)
    gradient, scores = gradients(relaxation, geometry, ids)
    # The optimizer goes down.
    updates, optimizer = OPTIMIZER.update(-gradient * geometry.unit, state.optimizer, state.points)
    return State(optax.apply_updates(state.points, updates), optimizer), ids, scores


def nearest(relaxation: Relaxation, geometry: Geometry, points: Float32[Array, "P T D"]) -> Int32[Array, "P T"]:
    """The allowed token whose embedding has the greatest cosine with each point."""
    products = jnp.einsum("ptd,vd->ptv", points, relaxation.table) / geometry.norms
    return jnp.where(relaxation.allowed, products, -jnp.inf).argmax(axis=-1).astype(jnp.int32)


def gradients(
    relaxation: Relaxation, geometry: Geometry, ids: Int32[Array, "P T"]
) -> tuple[Float32[Array, "P T D"], Scores]:
    """Gradient of each prompt's objective with respect to its embeddings, and its scores.

    The part through the label is exact where a token's logit is a linear function of its embedding, and the slope of
    the closest such function elsewhere.
    """
    first, width = relaxation.scorer.first_scored, relaxation.table.shape[1]

    def total(shift: Float32[Array, "P T D"]) -> tuple[Float32[Array, ""], tuple[Scores, Float32[Array, "P scored V"]]]:
        feature, logits = relaxation.between(ids, shift)
        nats, _ = surprisal(logits, ids[:, first:])
        scores = Scores(feature, nats.mean(axis=-1))
        return (feature - relaxation.penalties * scores.cross_entropy).sum(), (scores, logits)

    of_inputs, (scores, logits) = jax.grad(total, has_aux=True)(jnp.zeros((*ids.shape, width), jnp.float32))
    share = relaxation.penalties[:, None, None] / logits.shape[1]
    of_labels = share * _slopes(relaxation, geometry, logits)
    return of_inputs + jnp.pad(of_labels, ((0, 0), (first, 0), (0, 0))), scores


def _slopes(
    relaxation: Relaxation, geometry: Geometry, logits: Float32[Array, "P scored V"]
) -> Float32[Array, "P scored D"]:
    """Of the linear function of embeddings that is closest to the logits of the allowed tokens."""
    allowed = relaxation.allowed
    mean = jnp.where(allowed, logits, 0).sum(axis=-1, keepdims=True) / allowed.sum()
    # Logits that sum to 0 do not see the mean of the embeddings.
    centered = jnp.where(allowed, logits - mean, 0)
    return jnp.einsum("ptv,vd->ptd", centered, relaxation.table) @ geometry.inverse
