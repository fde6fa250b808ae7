"""Searches under constraints, over a toy objective: what they score, and what they leave as it was."""

from __future__ import annotations

import dataclasses
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import plain_constraints as plain
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from toy_search import make_toy

from epo_jax.constraints import (
    Constraints,
    Inspection,
    Survival,
    allowed_mask,
    checked_step,
    rules_of,
    surviving_prompts,
)
from epo_jax.dream import history as histories
from epo_jax.dream.record import Record
from epo_jax.epo import Algorithm
from epo_jax.epo import algorithm as module
from epo_jax.epo.mutate import Proposals, make_children
from epo_jax.epo.step import ALTERNATIVES
from epo_jax.errors import EpoError

TOKENIZERS = {"byte-level": plain.byte_level(), "sentencepiece": plain.sentencepiece(strip=True)}
LENGTH, POPULATION, CHILDREN, STEPS = 5, 3, 4, 3


def searched(
    tokenizer, constraints: Constraints, prefix: list[int] = (), suffix: list[int] = (), **shape
) -> tuple[Algorithm, Inspection]:
    """A search over the toy under constraints."""
    count = len(tokenizer)
    allowed = allowed_mask(constraints, tokenizer, count)
    sizes = {"population": POPULATION, "children": CHILDREN, "length": LENGTH, "top_k": 9, "iterations": STEPS}
    shape = sizes | shape
    rules = rules_of(constraints, tokenizer, allowed, shape["length"], prefix, suffix)
    toy = make_toy(vocabulary=count, banned=(), restart_every=2, **shape)
    algorithm = dataclasses.replace(toy, allowed=jnp.asarray(allowed), **vars(rules))
    return algorithm, Inspection(constraints, tokenizer, algorithm, prefix, suffix)


def histories_of(algorithm: Algorithm, inspection: Inspection, seed: int, steps: int = STEPS) -> np.ndarray:
    """Every prompt that a run scored, [N, T], the initial ones first."""
    key = jax.random.key(seed)
    if inspection.rejects is not None:
        ids = surviving_prompts(algorithm, inspection.rejects, key)
    else:
        ids = np.asarray(algorithm.random_ids(key))
    inspection.check(ids)
    state, seen = algorithm.init(key, jnp.asarray(ids)), [ids]
    for _ in range(steps):
        if inspection.rejects is not None:
            state, info = checked_step(algorithm, inspection.rejects, state)
        else:
            state, info = algorithm.step(state)
        scored = np.asarray(info.scored)
        assert np.isfinite(np.asarray(info.feature)[scored]).all()
        assert np.isnan(np.asarray(info.feature)[~scored]).all()
        assert np.isfinite(np.asarray(state.feature)).all()
        seen.append(np.asarray(info.ids)[scored])
    return np.concatenate(seen)


@st.composite
def flags(draw):
    texts = ["dog", " dog", "ss", "ſ", "straße", "e", "好", "the", "do gé", "g d", "12", "\xa5"]
    return {
        "ban_tokens": tuple(draw(st.lists(st.integers(0, 200), max_size=3))),
        "ban_pattern": draw(st.sampled_from(["", "^ ", "[A-Z]", r"\\x", r"\d"])),
        "ascii_only": draw(st.booleans()),
        "ban_text": tuple(draw(st.lists(st.sampled_from(texts), min_size=1, max_size=3))),
        "retokenize": draw(st.sampled_from(["off", "reject"])),
        "freeze": tuple(draw(st.lists(st.integers(-LENGTH, LENGTH - 1), max_size=3))),
        "allow_special": draw(st.booleans()),
    }


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(list(TOKENIZERS)), flags(), st.sampled_from(["", "The do", "<s>a dog", "ß"]), st.data())
@pytest.mark.parametrize("guided", [None, {}], ids=["paper", "best"])
def test_no_prompt_that_is_scored_breaks_a_constraint(guided, name, asked, before, data):
    tokenizer, asked = TOKENIZERS[name], Constraints(**asked)
    after = data.draw(st.sampled_from(["", "g", " dog", "ſ e"]))
    prefix, suffix = (tokenizer.encode(text, add_special_tokens=False) for text in (before, after))
    try:
        algorithm, inspection = searched(tokenizer, asked, prefix, suffix, options=guided)
        # One shape for all, so that they share their compilations.
        movable = jnp.ones(LENGTH, bool) if algorithm.movable is None else algorithm.movable
        algorithm = dataclasses.replace(algorithm, movable=movable, top_k=9)
        prompts = histories_of(algorithm, inspection, data.draw(st.integers(0, 99)))
    except EpoError as error:
        if not any(flag in str(error) for flag in ("--ban_text", "--retokenize=reject", "tokens are left")):
            raise
        assume(False)
    frozen = ~np.asarray(algorithm.movable)
    starts = {prompt[frozen].tobytes() for prompt in prompts[:POPULATION]}
    for prompt in prompts:
        assert prompt[frozen].tobytes() in starts
        text = plain.text_of(tokenizer, prompt)
        assert not plain.holds(tokenizer, prompt.tolist(), asked.ban_text, prefix, suffix)
        assert not set(prompt.tolist()) & set(asked.ban_tokens)
        assert text.isascii() or not asked.ascii_only
        assert asked.allow_special or not set(prompt.tolist()) & set(tokenizer.all_special_ids)
        assert asked.retokenize == "off" or plain.survives(tokenizer, prompt.tolist(), prefix, suffix)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"restart_every": 3}, "a7a4432c91ebac1201ed96c69f94f395"),
        ({"population": 1, "children": 9, "length": 1}, "e7131e1105a58293c0a1e61ac6bc6f9b"),
        ({"weights": (1.0, -0.5), "length": 12, "restart_every": 2}, "3f8cd4ffe2f99862366fb706a3be1057"),
    ],
)
def test_without_constraints_histories_are_those_of_the_versions_before_there_were_any(shape, expected):
    algorithm = make_toy(**shape)
    key = jax.random.key(5) if algorithm.dreams is None else jax.random.split(jax.random.key(5), 2)
    state = algorithm.init(key)
    told = hashlib.sha256(np.asarray(state.ids).tobytes())
    for _ in range(6):
        state, info = algorithm.step(state)
        told.update(np.asarray(info.ids).tobytes())
        assert np.asarray(info.scored).all()
    assert told.hexdigest()[:32] == expected


def test_a_step_in_two_halves_is_the_step_where_every_first_alternative_is_chosen():
    plain_search = make_toy(weights=(1.0, -0.5), restart_every=2)
    checked = dataclasses.replace(plain_search, checked=True)
    state = plain_search.init(jax.random.split(jax.random.key(5), 2))
    for _ in range(3):
        proposed, drawn = checked.propose(state)
        after, told = plain_search.step(state)
        offered = np.asarray(drawn.ids)
        assert offered.shape[2] == ALTERNATIVES
        assert drawn.operator is None
        parents = np.repeat(np.asarray(state.ids), 6, axis=1)
        assert ((offered != parents[:, :, None]).sum(axis=-1) == 1).all()
        np.testing.assert_array_equal(offered[:, :, 0], told.ids)
        copied = jax.tree.map(jnp.copy, state)
        _, info = checked.finish(copied, proposed, offered[:, :, 5])
        np.testing.assert_array_equal(info.ids, offered[:, :, 5])
        again = np.asarray(checked.redraw(state, proposed, 3).ids)
        np.testing.assert_array_equal(again[:, :, :5], offered[:, :, 3:])
        assert len(np.unique(np.concatenate([offered, again], axis=2)[0, 0], axis=0)) > 3
        state, info = checked.finish(state, proposed, offered[:, :, 0])
        for part in ("ids", "feature", "cross_entropy", "iteration"):
            np.testing.assert_array_equal(getattr(state, part), getattr(after, part))
            np.testing.assert_array_equal(getattr(info, part), getattr(told, part))
        np.testing.assert_array_equal(info.selected, told.selected)


def test_children_that_are_left_out_are_not_scored_and_never_selected():
    checked = dataclasses.replace(make_toy(), checked=True)
    state = checked.init(jax.random.key(1), make_toy().random_ids(jax.random.key(1)))
    proposed, drawn = checked.propose(state)
    before = np.asarray(state.ids)
    chosen = np.full((24, 5), -1)
    chosen[5] = np.asarray(drawn.ids)[5, 2]
    state, info = checked.finish(state, proposed, chosen)
    assert np.flatnonzero(np.asarray(info.scored)).tolist() == [5]
    assert np.asarray(info.ids)[5].tolist() == chosen[5].tolist()
    assert set(np.asarray(info.selected).tolist()) <= {0, 1, 2, 3, 4 + 5}
    kept = {prompt.tobytes() for prompt in np.concatenate([before, np.asarray(info.ids)[5:6]])}
    assert {prompt.tobytes() for prompt in np.asarray(state.ids)} <= kept


def only(tokenizer, letters: str, *, texts: tuple[str, ...], **shape) -> tuple[Algorithm, Inspection]:
    """A search over prompts of some letters."""
    kept = {tokenizer.convert_tokens_to_ids(letter) for letter in letters}
    banned = tuple(index for index in range(len(tokenizer)) if index not in kept)
    return searched(tokenizer, Constraints(ban_tokens=banned, ban_text=texts), **shape)


@pytest.mark.parametrize("guided", [None, {}], ids=["paper", "best"])
def test_a_parent_that_cannot_be_changed_has_no_children_and_the_search_goes_on(guided):
    tokenizer = TOKENIZERS["byte-level"]
    # "do" is the only prompt there is, and "dog" and "gdo" are reached from each other by no single change.
    algorithm, inspection = only(tokenizer, "do", texts=("dd", "oo", "od"), length=2, options=guided)
    assert plain.text_of(tokenizer, histories_of(algorithm, inspection, 0).tolist()[0]) == "do"
    state = algorithm.init(jax.random.key(0))
    record = Record([histories.of_state(jax.tree.map(lambda leaf: leaf[None], state))])
    before = np.asarray(state.ids).copy()
    state, infos = algorithm.advance(state, 3, 4)
    assert not np.asarray(infos.scored).any()
    np.testing.assert_array_equal(state.ids, before)
    record.add(histories.of_infos(jax.tree.map(lambda leaf: leaf[:, None], infos), 3))
    assert (record.scored, record.alive, record.iteration) == (POPULATION, 1, 3)
    assert len(record.history(0)) == POPULATION
    assert np.isfinite(record.best.feature)


def test_only_some_parents_may_be_stuck():
    tokenizer = TOKENIZERS["byte-level"]
    algorithm, inspection = only(tokenizer, "dogst", texts=("dd", "oo", "od", "gg", "go", "dg", "gd", "og"), length=2)
    ids = np.asarray([tokenizer.convert_tokens_to_ids(list(text)) for text in ("do", "st", "ss")], np.int32)
    inspection.check(ids)
    _, info = algorithm.step(algorithm.init(jax.random.key(3), jnp.asarray(ids)))
    scored = np.asarray(info.scored).reshape(POPULATION, CHILDREN)
    # "do" may become "so", "to", "ds" and "dt".
    assert scored.all()
    stuck, _ = only(tokenizer, "dos", texts=("dd", "oo", "od", "so", "ds"), length=2)
    ids = np.asarray([tokenizer.convert_tokens_to_ids(list(text)) for text in ("do", "ss", "os")], np.int32)
    _, info = stuck.step(stuck.init(jax.random.key(3), jnp.asarray(ids)))
    scored = np.asarray(info.scored).reshape(POPULATION, CHILDREN)
    assert scored.all(axis=1).tolist() == [False, True, True]
    assert not scored[0].any()
    chunk = histories.of_info(jax.tree.map(lambda leaf: leaf[None], info))
    assert len(chunk.of(0, 1)) == 2 * CHILDREN
    assert not chunk.broken.any()


def test_a_score_that_is_no_number_still_ends_a_dream_where_other_children_were_not_scored():
    shape = (1, 1, 3)
    scored = np.asarray([[[True, False, True]]])
    scores = np.full(shape, np.nan, np.float32)
    chunk = histories.Chunk(np.zeros((*shape, 2), np.int32), scores, scores, scored, np.ones(1, np.int32))
    assert chunk.broken.all()
    good = dataclasses.replace(chunk, feature=np.where(scored, 1, scores), cross_entropy=np.where(scored, 1, scores))
    assert not good.broken.any()


def test_positions_are_drawn_uniformly_from_those_that_have_a_usable_token():
    ids = jnp.zeros((1, 4), jnp.int32)
    usable = jnp.ones((1, 4, 6), bool).at[0, 1].set(False).at[0, 2, :5].set(False)
    proposals = Proposals(jnp.tile(jnp.arange(1, 7, dtype=jnp.int32), (1, 4, 1)), usable)
    numbers = jnp.arange(9000, dtype=jnp.int32)[None]
    children, positions = make_children(jax.random.split(jax.random.key(0), 1), ids, proposals, numbers)
    counts = np.bincount(np.asarray(positions)[0], minlength=4)
    assert counts[1] == 0
    assert np.abs(counts[[0, 2, 3]] - 3000).max() < 200
    assert (np.asarray(children)[0, np.asarray(positions)[0] == 2, 2] == 6).all()


@pytest.mark.parametrize("guided", [None, {}], ids=["paper", "best"])
def test_frozen_positions_keep_their_tokens_and_all_others_move(guided):
    algorithm, inspection = searched(TOKENIZERS["byte-level"], Constraints(freeze=(0, -2)), options=guided)
    prompts = histories_of(algorithm, inspection, 2, steps=8)
    starts = {prompt[[0, 3]].tobytes() for prompt in prompts[:POPULATION]}
    assert {prompt[[0, 3]].tobytes() for prompt in prompts} <= starts
    assert all(len(np.unique(prompts[:, position])) > POPULATION for position in (1, 2, 4))


def test_what_cannot_be_done_in_a_constrained_search_is_refused_with_the_flag():
    tokenizer = TOKENIZERS["byte-level"]
    frozen, _ = searched(tokenizer, Constraints(freeze=(0,)))
    with pytest.raises(EpoError, match=r"^--freeze: .* --init_text"):
        frozen.init(jax.random.key(0))
    checked, _ = searched(tokenizer, Constraints(retokenize="reject"))
    with pytest.raises(EpoError, match=r"^--retokenize=reject: "):
        checked.init(jax.random.key(0))
    state = checked.init(jax.random.key(0), checked.random_ids(jax.random.key(0)))
    for call in (lambda: checked.step(state), lambda: checked.advance(state, 1, 2)):
        with pytest.raises(EpoError, match=r"^--retokenize=reject: .*propose.*finish"):
            call()


def test_banned_texts_and_masks_are_no_part_of_what_is_compiled():
    tokenizer = TOKENIZERS["byte-level"]
    asked = [Constraints(ban_text=("dog",)), Constraints(ban_text=("straße", "好", "e"), ascii_only=True)]
    counts = []
    for one in asked:
        algorithm = dataclasses.replace(searched(tokenizer, one)[0], top_k=8)
        state = algorithm.init(jax.random.key(0))
        algorithm.advance(state, 2, 4)
        counts.append((module._init._cache_size(), module._advance._cache_size()))
    assert counts[0] == counts[1]


def test_initial_prompts_that_break_a_constraint_are_refused_and_frozen_tokens_may_be_banned():
    tokenizer = TOKENIZERS["byte-level"]
    d, o, g, s = tokenizer.convert_tokens_to_ids(list("dogs"))
    prompts = np.asarray([[o] * 5, [d, o, g, s, s]], np.int32)
    for asked, told in (
        (Constraints(ban_tokens=("g",)), r"^initial prompt 'dogss': token \d+ \('g'\) at position 2 is banned"),
        (Constraints(ban_text=("OGS",)), r"^initial prompt 'dogss': it holds.*--ban_text='OGS'"),
        (Constraints(retokenize="reject"), r"^initial prompt 'dogss': its text.*--retokenize=reject"),
    ):
        inspection = searched(tokenizer, asked)[1]
        with pytest.raises(EpoError, match=told) as caught:
            inspection.check(prompts)
        assert "\n" not in str(caught.value)
        assert inspection.keeps(prompts).tolist() == [True, False]
    searched(tokenizer, Constraints(ban_tokens=("g",), freeze=(2,)))[1].check(prompts)
    searched(tokenizer, Constraints(ban_tokens=("g",)))[1].check(np.asarray([[[o] * 5]], np.int32))


def test_a_prompt_survives_together_with_the_text_around_it():
    tokenizer = TOKENIZERS["byte-level"]
    d, o, a = tokenizer.convert_tokens_to_ids(list("doa"))
    bos = tokenizer.bos_token_id
    assert Survival(tokenizer).of(np.asarray([[o, d], [d, o]])).tolist() == [True, False]
    assert Survival(tokenizer, [bos], []).of(np.asarray([[o, d], [d, o]])).tolist() == [True, False]
    assert Survival(tokenizer, [bos, d], []).of(np.asarray([[o, a], [a, o]])).tolist() == [False, True]
    # What follows a BOS in a text is not what begins one here.
    pieces = TOKENIZERS["sentencepiece"]
    dog, unmarked = pieces.convert_tokens_to_ids(["▁dog", "og"])
    found = Survival(pieces, [pieces.bos_token_id], []).of(np.asarray([[dog], [unmarked]]))
    assert found.tolist() == [True, False]
    assert Survival(tokenizer, [], [o]).of(np.asarray([[a, d], [d, a]])).tolist() == [False, True]


def test_prompts_are_remembered_up_to_a_limit(monkeypatch):
    monkeypatch.setattr("epo_jax.constraints.survival.REMEMBERED", 4)
    survival = Survival(TOKENIZERS["byte-level"])
    rng = np.random.default_rng(0)
    for _ in range(5):
        prompts = rng.integers(1, 290, (3, 2)).astype(np.int32)
        expected = [plain.survives(TOKENIZERS["byte-level"], prompt) for prompt in prompts.tolist()]
        assert survival.of(prompts).tolist() == survival.of(prompts).tolist() == expected


def test_where_no_prompt_survives_the_search_does_not_begin():
    tokenizer = TOKENIZERS["byte-level"]
    kept = tokenizer.convert_tokens_to_ids(list("do"))
    banned = tuple(index for index in range(len(tokenizer)) if index not in kept)
    asked = Constraints(ban_tokens=banned, ban_text=("oo", "dd", "od"), retokenize="reject")
    algorithm, inspection = searched(tokenizer, asked, length=2)
    with pytest.raises(EpoError, match=r"^--retokenize=reject: found no prompt of 2 tokens"):
        surviving_prompts(algorithm, inspection.rejects, jax.random.key(0))
