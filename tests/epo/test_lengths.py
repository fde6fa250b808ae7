"""Searches whose prompts have a range of lengths: over the toy, and operator by operator."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_search import first_edits, scored_ids, trajectory

from epo_jax.epo import archive
from epo_jax.epo.automaton import Automaton
from epo_jax.epo.diversity import shared_share
from epo_jax.epo.lengths import PAD, bare, by_length, padded
from epo_jax.epo.operators import OPERATORS, Edits, Parent

SEEDS = st.integers(0, 2**32 - 1)
LEAST, LENGTH, VOCABULARY = 2, 5, 23
RANGE = {"least_length": LEAST}


def lengths_in(ids: np.ndarray) -> np.ndarray:
    """The length of each prompt, none of which has a pad before a token."""
    there = np.asarray(ids) != PAD
    assert not (~there[:, :-1] & there[:, 1:]).any()
    return there.sum(axis=1)


def toy_scores(algorithm, prompt: np.ndarray) -> tuple[float, float]:
    """What the toy gives a prompt that is as long as it is."""
    rows, tables = np.arange(len(prompt)), algorithm.scorer
    return np.asarray(tables.table)[rows, prompt].sum(), np.asarray(tables.surprise)[rows, prompt].mean()


@settings(max_examples=4, deadline=None)
@given(SEEDS, SEEDS)
def test_prompts_end_in_pads_are_as_long_as_they_may_be_and_score_as_without_pads(toy, seed, run):
    algorithm = toy(seed, options=RANGE)
    made = trajectory(algorithm, run, 8)
    every = np.concatenate([made[0][0].ids, *(scored_ids(info) for _, info, _ in made)])
    lengths = lengths_in(every)
    # Rarely a run of eight iterations scores no edit of another length.
    assert LEAST <= lengths.min() <= lengths.max() == LENGTH
    assert set(bare(every).tolist()) <= set(np.flatnonzero(algorithm.allowed).tolist())
    assert len(np.unique(every, axis=0)) == len(every)
    for before, info, after in made:
        scored = np.flatnonzero(info.scored)
        found = [toy_scores(algorithm, bare(ids)) for ids in np.asarray(info.ids)[scored]]
        told = np.stack([info.feature, info.cross_entropy], axis=1)[scored]
        np.testing.assert_allclose(told, np.asarray(found), rtol=1e-4, atol=1e-5)
        assert len(np.unique(after.ids, axis=0)) == len(after.ids)
        # The toy's parents are run with their gradients.
        own, first = lengths_in(info.ids[scored]), first_edits(before, info)[scored]
        assert int(info.rows) == 3 * lengths_in(before.ids).sum() + np.maximum(own - first, 1).sum()


def test_a_range_of_one_length_is_the_program_without_a_range(toy):
    without, one, some = (jax.tree.structure(toy(options={"least_length": least})) for least in (0, LENGTH, LEAST))
    assert without == one != some


def test_searches_start_from_prompts_of_any_length(toy):
    start = padded([[3, 4], [5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15, 16]], LENGTH)
    algorithm = toy(options=RANGE)
    state = algorithm.init(jax.random.key(5), jnp.asarray(start))
    np.testing.assert_array_equal(state.ids, start)
    found = np.stack([state.feature, state.cross_entropy], axis=1)
    np.testing.assert_allclose(found, [toy_scores(algorithm, bare(ids)) for ids in start], rtol=1e-4, atol=1e-5)


def test_where_short_prompts_are_best_they_are_found(toy):
    algorithm = toy(bounds=(0.0, 0.0), options=RANGE)
    negative = -jnp.abs(algorithm.scorer.table)
    algorithm = dataclasses.replace(algorithm, scorer=dataclasses.replace(algorithm.scorer, table=negative))
    last = trajectory(algorithm, 1, 25)[-1][2]
    assert lengths_in(last.ids)[0] == LEAST


def test_no_text_is_found_behind_a_prompts_end_and_no_pad_repeats_another(toy):
    # Two states: token 7 leads to the bad one, and any other token back.
    table = np.zeros((2, VOCABULARY), np.uint8)
    table[:, 7] = 1
    automaton = Automaton(jnp.asarray(table), jnp.int32(0), jnp.asarray([False, True]), jnp.ones((6, 2), bool))
    ids = jnp.asarray(padded([[3, 7], [7, 3], [7], [3, 7, 7, 7, 7]], LENGTH))
    lengths = jnp.asarray([2, 2, 1, 5])
    assert np.asarray(automaton.breaks(ids, lengths)).tolist() == [True, False, True, True]
    algorithm = dataclasses.replace(toy(options={**RANGE, "repetition": 0.0}), automaton=automaton)
    start = [[4, 5, 6, 8, 9], [5, 6, 8, 9, 4], [6, 8, 9, 10], [8, 9, 10]]
    state, found = algorithm.init(jax.random.key(3), jnp.asarray(padded(start, LENGTH))), []
    for _ in range(8):
        state, info = algorithm.step(state)
        found.append(scored_ids(info))
    found = np.concatenate(found)
    own = lengths_in(found)
    # Of two pads one would repeat the other.
    assert (own <= LENGTH - 2).any()
    assert 7 in bare(found)
    assert 7 not in found[np.arange(len(found)), own - 1]
    for prompt in map(bare, found):
        assert len(set(prompt.tolist())) == len(prompt)


def test_pads_are_no_tokens_to_an_archive_or_to_dreams_that_are_to_differ():
    ids = jnp.asarray(padded([[3, 7], [3, 7, 0], [0, 3, 7], [7, 3]], LENGTH))
    assert len({tuple(one) for one in np.asarray(archive.hashes(ids)).tolist()}) == 4
    members = jnp.stack([ids[:1], ids[1:2]])
    share = shared_share(members, jnp.zeros(2, jnp.int32), jnp.stack([ids[:3], ids[:3]]), 8)
    # The last token of the vocabulary is 7, and -1 is none.
    np.testing.assert_allclose(share, [[0, 0, 0], [1, 2 / 3, 2 / 3]], rtol=1e-6)


def test_a_function_of_prompts_of_one_length_serves_prompts_of_any():
    prompts = [np.asarray(one, np.int32) for one in ([1], [2, 3], [4], [5, 6, 7], [8, 9])]
    assert by_length(prompts, lambda ids: ids.sum(axis=1).tolist()) == [1, 5, 4, 18, 17]
    assert by_length([], np.sum) == []


def short_parent(length: int, least: int = 1, first_scored: int = 0, seed: int = 0) -> Parent:
    """A prompt of so many of six tokens, among longer and shorter ones."""
    rng = np.random.default_rng(seed)
    mates = padded([rng.permutation(np.arange(1, 20))[:count].tolist() for count in (length, 2, 6)], 6)
    log_probs = jax.nn.log_softmax(jnp.asarray(3 * rng.standard_normal((6, 20)), jnp.float32))
    there = np.arange(6) < length
    return Parent(
        ids=jnp.asarray(mates[0]),
        log_probs=log_probs.at[:first_scored].set(0.0),
        gradient=jnp.asarray(rng.standard_normal((6, 20)), jnp.float32),
        allowed=jnp.arange(20) > 0,
        positions=jnp.asarray(there / there.sum(), jnp.float32),
        mates=jnp.asarray(mates),
        nat=jnp.float32(0.3),
        kept=jnp.int32(5),
        least_length=least,
        first_scored=first_scored,
    )


def edits_of(name: str, parent: Parent, count: int = 400) -> Edits:
    return OPERATORS[name].propose(parent, jax.random.key(1), count)


@pytest.mark.parametrize("name", list(OPERATORS))
@pytest.mark.parametrize("length", [2, 4, 6])
def test_edits_of_short_prompts_end_in_pads_and_tell_finite_gains(name, length):
    edits = edits_of(name, short_parent(length))
    lengths = lengths_in(np.asarray(edits.ids))
    assert np.isfinite(edits.gain).all()
    assert 0 not in np.asarray(edits.ids)
    expected = {
        "insertion": {length, min(length + 1, 6)},
        "deletion": {length, length - 1},
        # A crossover may end at each of the parent's places, and the shortest are no prompts.
        "crossover": {*range(2, length), length, 6},
    }
    assert set(lengths.tolist()) == expected.get(name, {length})


def test_insertions_put_a_token_anywhere_and_deletions_take_any_out():
    parent = short_parent(4)
    before = bare(np.asarray(parent.ids)).tolist()
    longer = [bare(one).tolist() for one in np.asarray(edits_of("insertion", parent).ids)]
    places = set()
    for prompt in (one for one in longer if len(one) == 5):
        places |= {at for at in range(5) if prompt[:at] + prompt[at + 1 :] == before}
    assert places == set(range(5))
    shorter = {tuple(bare(one).tolist()) for one in np.asarray(edits_of("deletion", parent).ids)}
    assert {one for one in shorter if len(one) == 3} == {tuple(before[:at] + before[at + 1 :]) for at in range(4)}
    assert set(lengths_in(np.asarray(edits_of("deletion", short_parent(4, least=4)).ids)).tolist()) == {4}


@pytest.mark.parametrize("first_scored", [0, 1])
def test_where_all_other_surprisals_stay_a_gain_is_the_change_of_their_mean(first_scored):
    parent = short_parent(4, first_scored=first_scored)
    log_probs, before = np.asarray(parent.log_probs), bare(np.asarray(parent.ids))

    def mean(prompt):
        return log_probs[np.arange(first_scored, len(prompt)), prompt[first_scored:]].mean()

    seen = set()
    for name, change in (("insertion", 1), ("deletion", -1)):
        edits = edits_of(name, parent)
        for ids, gain in zip(np.asarray(edits.ids), np.asarray(edits.gain), strict=True):
            prompt = bare(ids)
            # A new last token, or the last one gone: no other token has others before it.
            if (
                len(prompt) == 4 + change
                and (prompt[:3] == before[:3]).all()
                and (change < 0 or prompt[3] == before[3])
            ):
                seen.add(name)
                # One of the scored tokens costs 0.3 for each nat.
                assert gain == pytest.approx(0.3 * (4 - first_scored) * (mean(prompt) - mean(before)), abs=1e-5)
    assert seen == {"insertion", "deletion"}
