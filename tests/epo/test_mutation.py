from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epo_jax.epo.mutate import Proposals, make_children, random_prompts, top_tokens

SHAPES = st.sampled_from([(4, 6, 5, 23, 7), (1, 9, 3, 11, 11), (3, 1, 1, 40, 2)])  # P, children, T, V, K
SEEDS = st.integers(0, 2**32 - 1)


def made(seed, ids, proposals, children):
    """Children of slots, [P, children, T], and their positions."""
    keys = jax.vmap(lambda slot: jax.random.fold_in(jax.random.key(seed), slot))(jnp.arange(len(ids)))
    numbers = jnp.tile(jnp.arange(children, dtype=jnp.int32), (len(ids), 1))
    return tuple(np.asarray(array) for array in make_children(keys, ids, proposals, numbers))


@settings(max_examples=40, deadline=None)
@given(SHAPES, SEEDS, SEEDS)
def test_a_child_differs_from_its_parent_in_exactly_one_position_and_never_by_a_banned_token(toy, shape, seed, run):
    population, children, length, vocabulary, top_k = shape
    algorithm = toy(seed, population, children, length, vocabulary, top_k, restart_every=2)
    state = algorithm.init(jax.random.key(run))
    for _ in range(3):
        new, info = algorithm.step(state)
        parents = np.repeat(np.asarray(state.ids), children, axis=0)
        differs = np.asarray(info.ids) != parents
        assert (differs.sum(axis=1) == 1).all()
        assert np.asarray(algorithm.allowed)[np.asarray(info.ids)[differs]].all()
        state = new


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.booleans())
def test_the_kept_tokens_are_the_best_by_gradient_without_banned_ones_and_the_one_already_there(seed, crowded):
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((2, 3, 30)).astype(np.float32)
    ids = rng.integers(0, 30, (2, 3)).astype(np.int32)
    allowed = rng.random(30) < (0.3 if crowded else 0.9)
    allowed[:2] = True
    top_k = min(8, int(allowed.sum()))
    proposals = top_tokens(jnp.asarray(gradients), jnp.asarray(ids), jnp.asarray(allowed), top_k)
    for p in range(2):
        for t in range(3):
            usable = [v for v in range(30) if allowed[v] and v != ids[p, t]]
            best = set(sorted(usable, key=lambda v: -gradients[p, t, v])[:top_k])
            assert set(np.asarray(proposals.ids[p, t])[np.asarray(proposals.usable[p, t])].tolist()) == best


def test_a_gradient_that_is_not_a_number_ranks_last_but_above_what_is_banned():
    gradients = jnp.asarray([[[jnp.nan, 1.0, jnp.nan, 3.0, 9.0]]])
    proposals = top_tokens(gradients, jnp.asarray([[1]], jnp.int32), jnp.asarray([True, True, True, True, False]), 3)
    assert proposals.ids[0, 0].tolist()[0] == 3
    assert set(np.asarray(proposals.ids[0, 0])[np.asarray(proposals.usable[0, 0])].tolist()) == {0, 2, 3}


def test_positions_and_tokens_are_drawn_uniformly():
    ids = jnp.zeros((1, 4), jnp.int32)
    proposals = Proposals(jnp.tile(jnp.arange(1, 11, dtype=jnp.int32), (1, 4, 1)), jnp.ones((1, 4, 10), bool))
    children, positions = made(1, ids, proposals, 40_000)
    drawn = children[0][np.arange(40_000), positions[0]]
    counts = np.zeros((4, 10))
    np.add.at(counts, (positions[0], drawn - 1), 1)
    # Chi-square with 39 degrees of freedom: above 80 in one of 10,000 draws.
    assert ((counts - 1000) ** 2 / 1000).sum() < 80


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_draw_depends_on_the_set_of_kept_tokens_and_not_on_their_order(seed):
    rng = np.random.default_rng(seed)
    ids = jnp.zeros((2, 3), jnp.int32)
    kept = rng.permuted(np.tile(np.arange(1, 41), (2, 3, 1)), axis=-1)[..., :16].astype(np.int32)
    usable = rng.random(kept.shape) < 0.8
    usable[..., 0] = True
    order = rng.permuted(np.tile(np.arange(16), (2, 3, 1)), axis=-1)
    shuffled = [jnp.asarray(np.take_along_axis(a, order, axis=-1)) for a in (kept, usable)]
    first, _ = made(seed, ids, Proposals(jnp.asarray(kept), jnp.asarray(usable)), 12)
    second, _ = made(seed, ids, Proposals(*shuffled), 12)
    assert np.array_equal(first, second)


def test_a_child_is_the_same_however_many_siblings_and_slots_it_has():
    ids = jnp.arange(12, dtype=jnp.int32).reshape(3, 4)
    proposals = Proposals(jnp.tile(jnp.arange(20, 40, dtype=jnp.int32), (3, 4, 1)), jnp.ones((3, 4, 20), bool))
    few, _ = made(5, ids[:2], Proposals(proposals.ids[:2], proposals.usable[:2]), 5)
    many, _ = made(5, ids, proposals, 9)
    assert np.array_equal(few, many[:2, :5])


@pytest.mark.parametrize("length", [1, 12])
def test_initial_prompts_are_uniform_over_allowed_tokens(length):
    allowed = jnp.asarray([False, True, True, False, True])
    prompts = np.asarray(random_prompts(jax.random.key(0), allowed, 3000, length))
    assert set(np.unique(prompts)) == {1, 2, 4}
    shares = np.array([(prompts == token).mean() for token in (1, 2, 4)])
    assert np.abs(shares - 1 / 3).max() < 0.05
