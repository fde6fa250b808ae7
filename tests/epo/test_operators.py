"""What every mutation operator keeps to, and what each one makes of a prompt."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epo_jax.epo.operators import OPERATORS, Edits, Parent

LENGTH, VOCABULARY, SLOTS, COUNT = 6, 40, 3, 64
SWAPS = ("gradient_swap", "model_swap", "tempered_swap", "uniform_swap", "mixed_swap")
every_operator = pytest.mark.parametrize("name", list(OPERATORS))


def parent_of(seed: int = 0, length: int = LENGTH, **changes) -> Parent:
    """A random prompt of allowed tokens, among others."""
    rng = np.random.default_rng(seed)
    allowed = rng.random(VOCABULARY) < 0.7
    mates = rng.choice(np.flatnonzero(allowed), (SLOTS, length)).astype(np.int32)
    weights = rng.random(length) + 0.2
    parent = Parent(
        ids=jnp.asarray(mates[0]),
        log_probs=jax.nn.log_softmax(jnp.asarray(3 * rng.standard_normal((length, VOCABULARY)), jnp.float32)),
        gradient=jnp.asarray(rng.standard_normal((length, VOCABULARY)), jnp.float32),
        allowed=jnp.asarray(allowed),
        positions=jnp.asarray(weights / weights.sum(), jnp.float32),
        mates=jnp.asarray(mates),
        nat=jnp.float32(0.3),
        kept=jnp.int32(5),
    )
    return dataclasses.replace(parent, **changes)


def edits_of(name: str, parent: Parent, seed: int = 0, count: int = COUNT) -> Edits:
    return OPERATORS[name].propose(parent, jax.random.key(seed), count)


@every_operator
@pytest.mark.parametrize("length", [1, 2, LENGTH])
def test_edits_are_prompts_of_allowed_tokens_with_what_is_known_of_them(name, length):
    parent = parent_of(1, length)
    edits = edits_of(name, parent)
    assert edits.ids.shape == (COUNT, length)
    assert edits.gain.shape == (COUNT,)
    assert (edits.ids.dtype, edits.gain.dtype) == (jnp.int32, jnp.float32)
    assert np.isfinite(edits.gain).all()
    assert np.asarray(parent.allowed)[np.asarray(edits.ids)].all()
    assert (np.asarray(edits.ids) != np.asarray(parent.ids)).any()


@every_operator
def test_first_edits_are_where_edits_begin_to_differ(name):
    parent = parent_of(2)
    edits = edits_of(name, parent)
    first = np.asarray(edits.first_edits(parent.ids))
    assert first.dtype == np.int32
    for ids, at in zip(np.asarray(edits.ids), first, strict=True):
        differs = np.flatnonzero(ids != np.asarray(parent.ids))
        assert at == (differs[0] if len(differs) else 0)
    assert len(set(first.tolist())) > 2


@every_operator
def test_draws_are_functions_of_key_and_parent_alone(name):
    parent = parent_of(3)
    once, again, other = edits_of(name, parent), edits_of(name, parent), edits_of(name, parent, seed=1)
    np.testing.assert_array_equal(once.ids, again.ids)
    np.testing.assert_array_equal(once.gain, again.gain)
    assert not np.array_equal(once.ids, other.ids)


@every_operator
def test_many_parents_at_once_get_the_edits_that_each_gets_alone(name):
    parents = [parent_of(seed) for seed in range(4)]
    arrays = [field for field, value in vars(parents[0]).items() if not isinstance(value, int)]
    stacked = {field: jnp.stack([getattr(parent, field) for parent in parents]) for field in arrays}
    keys = jax.random.split(jax.random.key(5), 4)
    propose = jax.vmap(lambda leaves, key: OPERATORS[name].propose(Parent(**leaves), key, COUNT))
    together = jax.jit(propose)(stacked, keys)
    for number, (parent, key) in enumerate(zip(parents, keys, strict=True)):
        alone = OPERATORS[name].propose(parent, key, COUNT)
        np.testing.assert_array_equal(together.ids[number], alone.ids)
        np.testing.assert_allclose(together.gain[number], alone.gain, rtol=1e-6)


@every_operator
def test_an_operator_that_does_not_ask_for_gradients_needs_none(name):
    operator, parent = OPERATORS[name], parent_of(4)
    if operator.reads_gradient:
        strange = edits_of(name, dataclasses.replace(parent, gradient=-parent.gradient))
        assert not np.array_equal(strange.ids, edits_of(name, parent).ids)
    else:
        without = edits_of(name, dataclasses.replace(parent, gradient=None))
        np.testing.assert_array_equal(without.ids, edits_of(name, parent).ids)


@every_operator
def test_prompts_stay_prompts_where_no_token_is_allowed_or_nothing_is_a_number(name):
    nowhere = parent_of(5, allowed=jnp.zeros(VOCABULARY, bool))
    unknown = parent_of(5, gradient=jnp.full((LENGTH, VOCABULARY), jnp.nan))
    for parent in (nowhere, unknown):
        ids = np.asarray(edits_of(name, parent).ids)
        assert (ids >= 0).all()
        assert (ids < VOCABULARY).all()
    assert np.asarray(unknown.allowed)[np.asarray(edits_of(name, unknown).ids)].all()


@every_operator
def test_edits_start_at_positions_that_may_be_chosen(name):
    positions = jnp.zeros(LENGTH).at[jnp.asarray([2, 4])].set(0.5)
    parent = parent_of(6, positions=positions)
    edits = edits_of(name, parent)
    first = np.asarray(edits.first_edits(parent.ids))
    changed = (np.asarray(edits.ids) != np.asarray(parent.ids)).any(axis=1)
    if name in SWAPS:
        assert set(first[changed].tolist()) == {2, 4}
    elif name == "insertion":
        # A token before the new one may leave.
        assert first[changed].min() < 2
    else:
        assert first[changed].min() >= 2


@pytest.mark.parametrize("name", SWAPS)
def test_a_swaps_gain_is_the_exact_change_of_its_tokens_own_surprisal(name):
    parent = parent_of(7)
    edits = edits_of(name, parent)
    ids, before = np.asarray(edits.ids), np.asarray(parent.ids)
    assert ((ids != before).sum(axis=1) <= 1).all()
    rows = np.arange(LENGTH)
    log_probs = np.asarray(parent.log_probs)
    expected = 0.3 * (log_probs[rows, ids].sum(axis=1) - log_probs[rows, before].sum())
    np.testing.assert_allclose(edits.gain, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["pair_swap", "crossover"])
def test_the_gain_of_longer_edits_is_that_of_the_first_token(name):
    # At a single position there may be edits of one token, which change nothing but later ones; so the first counts.
    positions = jnp.zeros(LENGTH).at[3].set(1.0)
    parent = parent_of(8, positions=positions)
    edits = edits_of(name, parent)
    ids, log_probs = np.asarray(edits.ids), np.asarray(parent.log_probs)
    expected = 0.3 * (log_probs[3, ids[:, 3]] - log_probs[3, int(parent.ids[3])])
    np.testing.assert_allclose(edits.gain, expected, atol=1e-5)


def shares(name: str, parent: Parent, position: int, count: int = 20_000) -> np.ndarray:
    """How often each token is put at a position, when that is the only one to begin at."""
    only = jnp.zeros(LENGTH).at[position].set(1.0)
    edits = edits_of(name, dataclasses.replace(parent, positions=only), count=count)
    return np.bincount(np.asarray(edits.ids)[:, position], minlength=VOCABULARY) / count


@pytest.mark.parametrize(("name", "sharpness"), [("model_swap", 1.0), ("tempered_swap", 0.5), ("uniform_swap", 0.0)])
def test_tokens_are_drawn_from_the_models_distribution_at_a_temperature(name, sharpness):
    parent = parent_of(9)
    weights = np.exp(sharpness * np.asarray(parent.log_probs[3])) * np.asarray(parent.allowed)
    assert np.abs(shares(name, parent, 3) - weights / weights.sum()).max() < 0.02


def test_gradient_swaps_draw_evenly_from_the_kept_tokens():
    parent = parent_of(10)
    gradient = np.where(np.asarray(parent.allowed), np.asarray(parent.gradient[2]), -np.inf)
    best = np.argsort(-gradient)[:5]
    found = shares("gradient_swap", parent, 2)
    assert np.abs(found[best] - 0.2).max() < 0.02
    assert found[best].sum() == pytest.approx(1)
    # A gradient that is not a number ranks behind all numbers, and never less than one token is kept.
    spoilt = parent.gradient.at[2, best[0]].set(jnp.nan)
    one = dataclasses.replace(parent, gradient=spoilt, kept=jnp.int32(0))
    assert shares("gradient_swap", one, 2, 100)[best[1]] == 1


def test_mixed_swaps_like_what_both_the_model_and_the_gradient_like():
    parent = parent_of(11)
    allowed, gradient = np.asarray(parent.allowed), np.asarray(parent.gradient[1])
    weights = np.where(allowed, np.exp(0.5 * np.asarray(parent.log_probs[1]) + gradient / gradient[allowed].std()), 0)
    assert np.abs(shares("mixed_swap", parent, 1) - weights / weights.sum()).max() < 0.02


def test_pair_swaps_replace_two_neighbours_and_the_last_token_alone():
    parent = parent_of(12)
    differs = np.asarray(edits_of("pair_swap", parent, count=400).ids) != np.asarray(parent.ids)
    spans = {tuple(np.flatnonzero(one).tolist()) for one in differs}
    pairs = {(at, at + 1) for at in range(LENGTH - 1)}
    assert pairs <= spans <= pairs | {(at,) for at in range(LENGTH)} | {()}


def test_insertions_put_a_token_in_and_let_another_one_go():
    parent = parent_of(13)
    before = np.asarray(parent.ids).tolist()
    edits = edits_of("insertion", parent, count=300)
    possible = set()
    for at in range(LENGTH):
        for gone in range(LENGTH):
            for token in range(VOCABULARY):
                longer = [*before[:at], token, *before[at:]]
                del longer[gone + (gone >= at)]
                possible.add(tuple(longer))
    assert set(map(tuple, np.asarray(edits.ids).tolist())) <= possible
    # Where nothing before the new token changed, its surprisal is known.
    first, ids = np.asarray(edits.first_edits(parent.ids)), np.asarray(edits.ids)
    known = np.asarray(edits.gain) != 0
    own = np.asarray(parent.log_probs)[first[known], ids[known, first[known]]]
    inserted = ids[known, first[known]] != np.asarray(before)[first[known]]
    assert np.isclose(np.asarray(edits.gain)[known], 0.3 * own, atol=1e-5)[inserted].mean() > 0.9


def test_deletions_move_up_what_stands_behind():
    parent = parent_of(14)
    before = np.asarray(parent.ids).tolist()
    for ids in np.asarray(edits_of("deletion", parent).ids).tolist():
        assert any(ids[:-1] == before[:gone] + before[gone + 1 :] for gone in range(LENGTH))


def test_crossovers_begin_as_the_parent_and_end_as_a_member():
    parent = parent_of(15)
    before, mates = np.asarray(parent.ids).tolist(), np.asarray(parent.mates).tolist()
    found = np.asarray(edits_of("crossover", parent, count=200).ids).tolist()
    made = {tuple(before[:at] + mate[at:]) for mate in mates for at in range(LENGTH)}
    assert set(map(tuple, found)) <= made
    assert len(set(map(tuple, found))) > len(made) / 2
