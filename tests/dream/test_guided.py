"""Dreams whose search is "best": with all that dreams may be asked for."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from broken_off import GUIDED

import epo_jax
from epo_jax import Constraints, EpoError, Template
from epo_jax.constraints import Survival
from epo_jax.dream import loop
from epo_jax.dream.start_pool import start_pool, start_rows
from epo_jax.epo import algorithm as algorithms
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.scoring.template import frozen_tokens

AROUND = Template(prefix="The quick", suffix=" dog", bos="always")


@pytest.fixture(scope="module")
def result(tiny):
    return epo_jax.dream(tiny, "L1.N5", GUIDED, seed=4)


@pytest.fixture(scope="module")
def other(tmp_path_factory, save_neox):
    """Another family with the same tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    save_neox(folder, seed=5)
    return epo_jax.load_model(str(folder), dtype="float32")


def texts_of(lm, made) -> list[str]:
    return [lm.tokenizer.decode(prompt) for prompt in made.history.ids.tolist()]


def test_a_history_holds_every_prompt_once_and_all_iterations(result):
    history = result.history
    assert len(np.unique(history.ids, axis=0)) == len(history)
    assert (history.iteration == 0).sum() == 3
    assert set(history.iteration.tolist()) == set(range(8))
    assert np.isfinite(history.feature).all()
    assert result.run.search == GUIDED


@pytest.mark.parametrize("template", [None, AROUND], ids=["bare", "around"])
def test_recorded_scores_are_those_of_whole_sequences(tiny, template):
    made = epo_jax.dream(tiny, "L1.N5", GUIDED, seed=2, template=template)
    frozen = frozen_tokens(tiny, template or Template())
    around = [np.tile(part, (len(made.history), 1)) for part in (frozen.prefix, frozen.suffix)]
    whole = np.concatenate([around[0], made.history.ids, around[1]], axis=1)
    found = epo_jax.score(tiny, epo_jax.parse_feature("L1.N5", tiny), whole, template)
    np.testing.assert_allclose(found.feature, made.history.feature, atol=1e-4)
    np.testing.assert_allclose(found.cross_entropy, made.history.cross_entropy, atol=1e-4)


def test_the_same_seed_gives_a_byte_identical_history_and_another_seed_another_one(tiny, result):
    again = epo_jax.dream(tiny, "L1.N5", GUIDED, seed=4)
    for name in ("ids", "feature", "cross_entropy", "iteration"):
        assert getattr(result.history, name).tobytes() == getattr(again.history, name).tobytes()
    other = epo_jax.dream(tiny, "L1.N5", GUIDED, seed=5)
    assert not np.array_equal(result.history.ids[:3], other.history.ids[:3])


def test_all_neurons_and_seeds_share_one_compilation(tiny, result):
    epo_jax.dream(tiny, "L1.N5", GUIDED, seed=4)
    compiled = algorithms._advance._cache_size(), algorithms._init._cache_size(), algorithms._best_of._cache_size()
    for feature, seed in (("L0.N0", 1), ("L2.N52", 2)):
        changed = dataclasses.replace(GUIDED, lambda_min=0.3, noise=0.7, adaptation=0.3, kept_last=9)
        epo_jax.dream(tiny, feature, changed, seed=seed)
    found = algorithms._advance._cache_size(), algorithms._init._cache_size(), algorithms._best_of._cache_size()
    assert found == compiled


def test_several_dreams_together_are_the_dreams_alone(tiny, result):
    together = epo_jax.dream(tiny, ["L0.N3", "L1.N5"], GUIDED, seed=[1, 4])
    np.testing.assert_array_equal(together[1].history.ids, result.history.ids)
    np.testing.assert_allclose(together[1].history.feature, result.history.feature, rtol=1e-4, atol=1e-5)
    alone = epo_jax.dream(tiny, "L0.N3", GUIDED, seed=1)
    np.testing.assert_array_equal(together[0].history.ids, alone.history.ids)


@pytest.mark.parametrize("changes", [{}, {"beginnings": 2, "model_starts": 10, "random_starts": 8}])
def test_a_dream_starts_from_the_best_of_the_models_samples_and_random_prompts(tiny, changes):
    config = dataclasses.replace(GUIDED, penalties="given", fragments=True, **changes)
    made = epo_jax.dream(tiny, "L1.N5", dataclasses.replace(config, iterations=1), seed=3, template=AROUND)
    allowed = allowed_tokens(tiny.tokenizer, tiny.config.vocab_size)
    (pool,) = start_pool(tiny, config, [3], AROUND, allowed)
    options = config.options
    assert len(pool) == options.model_starts + options.random_starts
    assert start_rows(config) == 5 * (2 * options.model_starts + options.random_starts)
    first = made.history.ids[made.history.iteration == 0]
    assert len(first) == 3 * options.beginnings
    template = frozen_tokens(tiny, AROUND)
    whole = np.concatenate([np.tile(template.prefix, (len(pool), 1)), pool], axis=1)
    whole = np.concatenate([whole, np.tile(template.suffix, (len(pool), 1))], axis=1)
    scores = epo_jax.score(tiny, epo_jax.parse_feature("L1.N5", tiny), whole, AROUND)
    for part, ids in enumerate(np.split(pool, options.beginnings)):
        own = slice(part * len(ids), (part + 1) * len(ids))
        best = ids[np.argmax(np.asarray(scores.feature - 0.1 * scores.cross_entropy)[own])]
        np.testing.assert_array_equal(first[3 * part], best)
        assert {tuple(one) for one in first[3 * part : 3 * part + 3].tolist()} <= {tuple(one) for one in ids.tolist()}


def test_without_starts_to_choose_from_prompts_are_random(tiny):
    config = dataclasses.replace(GUIDED, model_starts=0, random_starts=0)
    assert start_rows(config) == 0
    made = epo_jax.dream(tiny, "L1.N5", config, seed=3)
    algorithm = epo_jax.build(tiny, [epo_jax.parse_feature("L1.N5", tiny)], config)
    keys = jax.random.key(3, impl="threefry2x32")[None]
    np.testing.assert_array_equal(made.history.ids[:3], algorithm.random_ids(keys)[0])


def test_a_text_or_file_to_start_from_is_taken_as_it_is(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "guided_starts", lambda *_: pytest.fail("nothing is to be drawn"))
    text = tiny.tokenizer.decode([70, 71, 72, 73, 74])
    made = epo_jax.dream(tiny, "L1.N5", GUIDED, init_text=text)
    assert (made.history.ids[:3] == [70, 71, 72, 73, 74]).all()
    assert set(made.history.iteration.tolist()) == set(range(8))
    prompts = [[70, 71, 72, 73, 74], [80, 81, 82, 83, 84], [90, 91, 92, 93, 94]]
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"ids": {one}}}\n' for one in prompts))
    made = epo_jax.dream(tiny, "L1.N5", GUIDED, init_file=tmp_path / "prompts.jsonl")
    np.testing.assert_array_equal(made.history.ids[:3], prompts)
    sampled = epo_jax.dream(tiny, "L1.N5", dataclasses.replace(GUIDED, iterations=1), init="model")
    assert len(sampled.history.ids) > 3


@pytest.mark.parametrize("retokenize", ["mark", "reject"])
def test_prompts_that_are_not_tokenized_to_themselves_are_marked_or_never_scored(tiny, retokenize):
    config = dataclasses.replace(GUIDED, fragments=True)
    made = epo_jax.dream(tiny, "L1.N5", config, seed=1, constraints=Constraints(retokenize=retokenize))
    survive = Survival(tiny.tokenizer).of(made.history.ids)
    np.testing.assert_array_equal(made.frontier.retokenizes, Survival(tiny.tokenizer).of(made.frontier.ids))
    if retokenize == "reject":
        assert survive.all()
        assert len(made.history) > 3 + 7
    else:
        assert not survive.all()
        plain = epo_jax.dream(tiny, "L1.N5", config, seed=1)
        np.testing.assert_array_equal(made.history.ids, plain.history.ids)


@pytest.mark.parametrize("retokenize", ["off", "reject"])
def test_positions_that_are_frozen_keep_the_tokens_of_the_text(tiny, retokenize):
    asked = Constraints(freeze=(0, -1), retokenize=retokenize)
    ids = tiny.tokenizer.encode(" a dog runs", add_special_tokens=False)
    config = dataclasses.replace(GUIDED, length=len(ids))
    made = epo_jax.dream(tiny, "L1.N5", config, constraints=asked, init_text=" a dog runs")
    assert (made.history.ids[:, [0, -1]] == np.asarray(ids)[[0, -1]]).all()
    assert len(np.unique(made.history.ids[:, 1])) > 3
    with pytest.raises(EpoError, match=r"^--freeze: .* --init_text"):
        epo_jax.dream(tiny, "L1.N5", config, constraints=asked)


@pytest.mark.parametrize("retokenize", ["off", "reject"])
def test_banned_texts_and_tokens_are_in_no_prompt(tiny, retokenize):
    asked = Constraints(ban_text=("e", "o"), ban_pattern="^[A-Z]", retokenize=retokenize)
    made = epo_jax.dream(tiny, "L1.N5", GUIDED, seed=[1, 2], constraints=asked, template=AROUND)
    for one in made:
        assert len(one.history) > 10
        for text in texts_of(tiny, one):
            assert not set("eoEO") & set(text)
    free = epo_jax.dream(tiny, "L1.N5", GUIDED, seed=1, template=AROUND)
    assert any(set("eoEO") & set(text) for text in texts_of(tiny, free))


@pytest.mark.parametrize("feature", ["logit:e"])
def test_another_models_fluency_counts(tiny, other, feature):
    made = epo_jax.dream(tiny, feature, GUIDED, fluency_model=other, template=AROUND)
    frozen = frozen_tokens(tiny, AROUND)
    around = [np.tile(part, (len(made.history), 1)) for part in (frozen.prefix, frozen.suffix)]
    whole = np.concatenate([around[0], made.history.ids, around[1]], axis=1)
    found = epo_jax.score(tiny, epo_jax.parse_feature(feature, tiny), whole, AROUND, fluency_model=other)
    np.testing.assert_allclose(found.feature, made.history.feature, atol=1e-4)
    np.testing.assert_allclose(found.cross_entropy, made.history.cross_entropy, atol=1e-4)


def test_a_scale_only_counts_where_penalties_are_given(tiny, result):
    scaled = epo_jax.dream(tiny, "L1.N5", GUIDED, seed=4, scale=100.0)
    np.testing.assert_array_equal(scaled.history.ids, result.history.ids)
    given = dataclasses.replace(GUIDED, penalties="given")
    one, other = (epo_jax.dream(tiny, "L1.N5", given, seed=4, scale=scale) for scale in ("none", 100.0))
    assert not np.array_equal(one.history.ids, other.history.ids)


@pytest.mark.parametrize("beam", [False, True])
def test_prompts_of_one_token_can_be_searched(tiny, beam):
    config = dataclasses.replace(GUIDED, length=1, beam=beam)
    made = epo_jax.dream(tiny, "L1.N5", config, template=Template(prefix="The", bos="always"))
    assert len(np.unique(made.history.ids)) == len(made.history) > 20


def test_a_run_folder_says_how_it_searched(tiny, result, tmp_path):
    result.save(tmp_path / "run")
    read = epo_jax.load_result(tmp_path / "run")
    assert read.run == result.run
    assert {"--search=best", "--model_starts=6", "--random_starts=4"} <= set(read.run.command.split())


def test_a_beam_writes_what_dreams_start_from_for_each_dream_its_own(tiny):
    config = dataclasses.replace(GUIDED, beam=None, beginnings=None)
    assert config.options.beam
    made = epo_jax.dream(tiny, ["L1.N5", "L0.N3"], config, seed=[3, 4], template=AROUND)
    algorithm = epo_jax.build(tiny, [epo_jax.parse_feature("L1.N5", tiny)], config, AROUND)
    keys = jax.random.key(3, impl="threefry2x32")[None]
    ids = np.asarray(algorithm.beam(keys)[0])
    assert np.asarray(algorithm.allowed)[ids].all()
    assert (np.sort(ids)[:, 1:] != np.sort(ids)[:, :-1]).all()
    count = 3 * config.options.beginnings
    np.testing.assert_array_equal(made[0].history.ids[:count], ids)
    assert (made[0].history.iteration[:count] == 0).all()
    other = epo_jax.build(tiny, [epo_jax.parse_feature("L0.N3", tiny)], config, AROUND)
    its_own = np.asarray(other.beam(jax.random.key(4, impl="threefry2x32")[None])[0])
    np.testing.assert_array_equal(made[1].history.ids[:count], its_own)


def test_where_nothing_stands_before_a_beam_opens_with_words(tiny):
    config = dataclasses.replace(GUIDED, population=8, beam=None)
    algorithm = epo_jax.build(tiny, epo_jax.parse_feature("L1.N5", tiny), config, Template(bos="never"))
    found = np.asarray(algorithm.beam(jax.random.key(3, impl="threefry2x32")))[:, 0].tolist()
    assert len(set(found)) > 2
    for token in found:
        text = tiny.tokenizer.decode([token])
        assert text.startswith(" ")
        assert text[1:].isalpha()


@pytest.mark.parametrize(
    "asked", [Constraints(ban_text=("e",)), Constraints(retokenize="reject")], ids=["ban_text", "reject"]
)
def test_where_whole_prompts_are_looked_at_samples_stand_in_a_beams_place(tiny, asked):
    by_default = dataclasses.replace(GUIDED, beam=None)
    made, without = (
        epo_jax.dream(tiny, "L1.N5", dataclasses.replace(config, iterations=1), seed=3, constraints=asked)
        for config in (by_default, GUIDED)
    )
    np.testing.assert_array_equal(made.history.ids[:3], without.history.ids[:3])
    with pytest.raises(EpoError, match=r"^--beam: .*--nobeam"):
        epo_jax.dream(tiny, "L1.N5", dataclasses.replace(GUIDED, beam=True), constraints=asked)
