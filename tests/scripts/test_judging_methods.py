"""What methods score, what they count, and the features that they are given."""

from __future__ import annotations

import dataclasses
import itertools
import types

import numpy as np
import pytest
from judging import features as listed
from judging.dataset import PIECE, dataset, shuffled
from judging.drawn import random, samples
from judging.evolution import best, evolved, gcg, paper
from judging.features import LONGEST, features, kind_of
from judging.methods import METHODS, REFERENCE, SEARCHES
from judging.rows import budget_of
from judging.task import Task

import epo_jax
from epo_jax import EPOConfig
from epo_jax.corpus import Document
from epo_jax.errors import EpoError
from epo_jax.models.tokenizers import allowed_tokens

SMALL = EPOConfig(iterations=5, population=3, children=4, length=5, top_k=40, restart_every=2)
FEATURE = "L1.N5"
TEXT = "The quick brown fox jumps over the lazy dog and runs away from the bear. A cat sat on a mat, 12 times or 345.\n"


@pytest.fixture(scope="module")
def task(tiny, tmp_path_factory):
    corpus = tmp_path_factory.mktemp("corpus")
    (corpus / "a.txt").write_text(TEXT * 60)
    (corpus / "b.txt").write_text(TEXT.upper() * 60)
    return Task(tiny, FEATURE, 0, budget_of(SMALL), SMALL, corpus)


@pytest.fixture(scope="module")
def larger(task):
    """Enough for a batch of the corpus beside the hits."""
    return dataclasses.replace(task, budget=8000)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_score_what_they_tell_within_the_budget(name, larger):
    small = dataclasses.replace(larger, budget=larger.budget if name in ("dataset", "best") else budget_of(SMALL))
    if name == "best":
        # What it remembers is sized for its iterations.
        small = dataclasses.replace(small, config=dataclasses.replace(SMALL, iterations=90))
    trace = METHODS[name](small)
    assert len(trace)
    assert trace.ids.shape == (len(trace), SMALL.length)
    assert (np.diff(trace.rows) >= 0).all()
    assert (np.diff(trace.seconds) >= 0).all()
    assert 0 < trace.rows[0] <= trace.rows[-1] <= small.budget
    # All but what one more batch or iteration would take.
    assert trace.rows[-1] > 0.75 * small.budget - (2000 if name == "dataset" else 0)
    chosen = np.arange(0, len(trace), 7)
    scores = epo_jax.score(task_lm := small.lm, epo_jax.parse_feature(FEATURE, task_lm), trace.ids[chosen])
    np.testing.assert_allclose(trace.feature[chosen], scores.feature, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(trace.cross_entropy[chosen], scores.cross_entropy, rtol=1e-4)
    assert allowed_tokens(task_lm.tokenizer, task_lm.config.vocab_size)[trace.ids].all()


def test_the_papers_search_is_the_dream_of_the_same_seed(task):
    seeded = dataclasses.replace(task, seed=3)
    trace = paper(seeded)
    history = epo_jax.dream(task.lm, epo_jax.parse_feature(FEATURE, task.lm), SMALL, seed=3).history
    count = min(len(trace), len(history.ids))
    assert count > SMALL.population * (1 + 3 * SMALL.children)
    assert np.array_equal(trace.ids[:count], history.ids[:count])
    np.testing.assert_allclose(trace.feature[:count], history.feature[:count], rtol=1e-5)


def test_rows_of_a_search_are_gradients_and_what_stands_behind_each_edit(task):
    trace, length = paper(task), SMALL.length
    size = SMALL.population * SMALL.children
    first = trace.rows[: SMALL.population]
    assert first.tolist() == [length, 2 * length, 3 * length]
    start = SMALL.population
    # Every child differs from its slot's parent in the token that was edited, and the parents are the initial prompts.
    parents = np.repeat(trace.ids[:start], SMALL.children, axis=0)
    edited = (trace.ids[start : start + size] != parents).argmax(axis=1)
    # All of an iteration's children are known at its end.
    spent = first[-1] + SMALL.population * 3 * length + (length - edited).sum()
    assert (trace.rows[start : start + size] == spent).all()


def test_the_budget_is_what_the_papers_search_takes_on_average(task):
    spent = []
    for seed in range(6):
        many = dataclasses.replace(task, seed=seed, budget=10**6)
        config = dataclasses.replace(SMALL, iterations=20)
        trace = evolved(dataclasses.replace(many, budget=2 * budget_of(config)), config)
        spent.append(trace.rows[SMALL.population + 20 * SMALL.population * SMALL.children - 1])
    assert np.mean(spent) == pytest.approx(budget_of(config), rel=0.03)


def test_a_guided_search_is_the_dream_of_the_same_seed_and_the_rows_of_its_starts_count(task):
    guided = dataclasses.replace(
        SMALL, search="best", beam=False, beginnings=1, model_starts=4, random_starts=6, operators="model_swap"
    )
    trace = evolved(dataclasses.replace(task, seed=3), guided)
    history = epo_jax.dream(task.lm, epo_jax.parse_feature(FEATURE, task.lm), guided, seed=3).history
    count = min(len(trace), len(history.ids))
    assert count > SMALL.population * (1 + 3 * SMALL.children)
    assert np.array_equal(trace.ids[:count], history.ids[:count])
    # Samples are drawn and scored, random prompts scored; parents are run forward alone where nothing asks for more.
    length, start = SMALL.length, SMALL.population
    pool = (2 * 4 + 6) * length
    assert trace.rows[:start].tolist() == [pool + number * length for number in (1, 2, 3)]
    made = int((history.iteration == 1).sum())
    assert len(set(trace.rows[start : start + made].tolist())) == 1
    assert pool + 6 * length + made <= trace.rows[start] <= pool + 6 * length + made * length


def test_a_beam_is_where_a_guided_search_starts_and_its_rows_count(task):
    guided = dataclasses.replace(SMALL, search="best", beginnings=2, operators="model_swap")
    larger = dataclasses.replace(task, budget=2 * task.budget)
    trace = evolved(larger, guided)
    history = epo_jax.dream(task.lm, epo_jax.parse_feature(FEATURE, task.lm), guided).history
    assert np.array_equal(trace.ids[:6], history.ids[:6])
    # At each position three parents and four continuations of each, in the last place eight times as many.
    spent = 2 * (5 * 3 * 5 + 3 * 4 * (4 + 8))
    assert trace.rows[:6].tolist() == [spent + 5 * number for number in range(1, 7)]


def test_a_budget_below_what_starting_takes_is_refused(task):
    with pytest.raises(EpoError, match=r"^--iterations: a budget of 420 rows, where the first scores take 468"):
        best(task)


def test_gcg_has_one_slot_that_never_falls(task):
    trace, size = gcg(task), SMALL.population * SMALL.children
    assert trace.rows[0] == SMALL.length
    kept, best = trace.ids[0], trace.feature[0]
    for start in range(1, len(trace), size):
        part = slice(start, start + size)
        assert ((trace.ids[part] != kept).sum(axis=1) <= 1).all()
        if trace.feature[part].max() > best:
            kept, best = trace.ids[part][trace.feature[part].argmax()], trace.feature[part].max()


@pytest.mark.parametrize(("method", "each"), [(random, 1), (samples, 2)])
def test_prompts_that_are_drawn_fill_the_budget(method, each, task):
    trace = method(task)
    assert len(trace) == task.budget // (each * SMALL.length)
    assert np.array_equal(trace.ids, method(task).ids)
    assert not np.array_equal(trace.ids, method(dataclasses.replace(task, seed=1)).ids)


def test_prompts_of_a_corpus_stand_in_it(larger):
    trace = dataset(larger)
    texts = [larger.lm.tokenizer.decode(prompt) for prompt in trace.ids.tolist()]
    assert all(text in TEXT * 2 or text in TEXT.upper() * 2 for text in texts)
    assert not np.array_equal(trace.ids, dataset(dataclasses.replace(larger, seed=1)).ids)
    with pytest.raises(EpoError, match="--corpus: none given"):
        dataset(dataclasses.replace(larger, corpus=None))


def test_pieces_of_a_corpus_are_all_of_it_in_another_order():
    documents = [Document("a", "".join(f"line {number}\n" for number in range(2000))), Document("b", "short")]
    pieces = shuffled(iter(documents), 0)
    assert len(pieces) > 5
    assert all(len(piece.text) < PIECE + 20 for piece in pieces)
    places = [(name, int(at)) for name, _, at in (piece.name.partition("@") for piece in pieces)]
    assert places != sorted(places)
    together = "".join(piece.text for _, piece in sorted(zip(places, pieces, strict=True)))
    assert together == documents[0].text + documents[1].text


@pytest.fixture
def shapes(monkeypatch):
    """Models of any depth, of which features ask shapes alone, and words without a tokenizer."""
    monkeypatch.setattr(listed, "chosen_logits", lambda _, count, __: [f"logit: w{number}" for number in range(count)])

    def of(layers: int, width: int = 100) -> types.SimpleNamespace:
        return types.SimpleNamespace(config=types.SimpleNamespace(layers=layers, mlp_width=width))

    return of


@pytest.mark.parametrize("layers", [1, 2, 6, 30])
def test_the_lists_share_no_feature(layers, shapes):
    lm = shapes(layers)
    tune, report = features(lm, "tune", LONGEST["tune"]), features(lm, "report", LONGEST["report"])
    assert len(set(tune)) == LONGEST["tune"]
    assert len(set(report)) == LONGEST["report"]
    assert not set(tune) & set(report)


def test_fewer_features_begin_more_and_mix_kinds_as_more_do(shapes):
    lm = shapes(30)
    whole = features(lm, "report", 16)
    assert features(lm, "report", 6) == whole[:6]
    counts = {count: [list(map(kind_of, whole[:count])).count(kind) for kind in listed.KINDS] for count in (6, 16)}
    assert counts == {6: [3, 2, 1], 16: [8, 4, 4]}
    assert list(map(kind_of, features(lm, "tune", 6))) == list(map(kind_of, whole[:6]))


def test_features_come_from_all_depths(shapes):
    for which, slices in (("report", 8), ("tune", 3)):
        names = features(shapes(24), which, LONGEST["tune"] if which == "tune" else 16)
        layers = [int(name[1:].split(".")[0]) for name in names if kind_of(name) == listed.NEURON][:slices]
        assert sorted(layer * slices // 24 for layer in layers) == list(range(slices))
    read = [name for name in names if kind_of(name) == listed.DIRECTION]
    assert all(not name.startswith("residual:L0:") for name in read)


def test_a_list_that_is_not_there_or_too_short_is_refused(shapes):
    for which, count in (("other", 3), ("tune", LONGEST["tune"] + 1), ("report", 0)):
        with pytest.raises(EpoError, match=r"--list=|--features="):
            features(shapes(4), which, count)


def test_what_others_are_held_against_is_a_search():
    assert REFERENCE in SEARCHES
    assert set(SEARCHES) <= set(METHODS)
    assert len(list(itertools.chain(METHODS))) == len(METHODS)
