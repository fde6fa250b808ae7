"""Several dreams in one program, held against the same dreams run alone."""

from __future__ import annotations

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epo_jax
from epo_jax import EPOConfig, EpoError, NonFiniteError, Template
from epo_jax.dream import loop
from epo_jax.dream.batch import folder_names

# The shapes of test_dream.py, whose programs serve here too.
SMALL = EPOConfig(iterations=7, population=3, children=4, length=5, top_k=40, restart_every=3)
FEATURES = ("L0.N3", "L1.N5", "L2.N52", "L1.N0")
SEEDS = (4, 2**32 - 1)
ZIPPED = [list(column) for column in zip(*itertools.product(FEATURES, SEEDS), strict=True)]


def assert_same(one: epo_jax.Result, other: epo_jax.Result) -> None:
    np.testing.assert_array_equal(one.history.ids, other.history.ids)
    np.testing.assert_array_equal(one.history.iteration, other.history.iteration)
    np.testing.assert_allclose(one.history.feature, other.history.feature, rtol=0, atol=1e-4)
    np.testing.assert_allclose(one.history.cross_entropy, other.history.cross_entropy, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(Template(), marks=pytest.mark.slow),
        Template(prefix="The quick", suffix=" dog", bos="always"),
    ],
)
def test_eight_dreams_in_one_program_are_the_eight_single_runs(tiny, template):
    config = dataclasses.replace(SMALL, iterations=30)
    features, seeds = ZIPPED
    together = epo_jax.dream(tiny, features, config, seed=seeds, template=template)
    assert len(together) == 8
    assert len({result.history.ids.tobytes() for result in together}) == 8
    for result, feature, seed in zip(together, features, seeds, strict=True):
        alone = epo_jax.dream(tiny, feature, config, seed=seed, template=template)
        assert_same(result, alone)
        assert (result.run.feature, result.run.seed) == (feature, seed)


@pytest.mark.slow
def test_run_folders_of_a_list_are_those_of_single_runs(tiny, tmp_path):
    features, seeds = ZIPPED
    epo_jax.dream(tiny, features, SMALL, seed=seeds, output=tmp_path / "many")
    names = [f"{feature}-seed{seed}" for feature, seed in zip(features, seeds, strict=True)]
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == sorted(names)
    for name, feature, seed in zip(names[:3], features, seeds, strict=False):
        epo_jax.dream(tiny, feature, SMALL, seed=seed, output=tmp_path / "alone" / name)
        folders = tmp_path / "many" / name, tmp_path / "alone" / name
        files = [sorted(path.name for path in folder.iterdir()) for folder in folders]
        assert files[0] == files[1]
        configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
        for config in configs:
            assert config.pop("seconds") > 0
            assert config.pop("versions")
        assert configs[0] == configs[1]
        assert f"--feature={feature}" in configs[0]["command"]
        assert_same(*map(epo_jax.load_result, folders))


def test_a_list_in_gives_a_list_out_and_what_is_single_is_for_all(tiny):
    config = dataclasses.replace(SMALL, iterations=1)
    assert isinstance(epo_jax.dream(tiny, "L1.N5", config), epo_jax.Result)
    feature = epo_jax.parse_feature("L1.N5", tiny)
    for given, seed in (([feature], 3), ("L1.N5", range(3, 4)), (("L1.N5",), [3])):
        found = epo_jax.dream(tiny, given, config, seed=seed)
        assert [(result.run.feature, result.run.seed) for result in found] == [("L1.N5", 3)]
    found = epo_jax.dream(tiny, "L1.N5", config, seed=range(8))
    assert [result.run.seed for result in found] == list(range(8))
    found = epo_jax.dream(tiny, [*FEATURES, *FEATURES], config, seed=1)
    assert [(result.run.feature, result.run.seed) for result in found] == [(name, 1) for name in FEATURES * 2]


@pytest.mark.parametrize(
    ("feature", "seed", "told"),
    [
        ([], 0, "--feature: none"),
        ("L1.N5", [], "--seed: none"),
        (["L1.N5", "L1.N6"], [1, 2, 3], "--seed: 3 seeds for 2 features"),
        (["L1.N5", "L1.N6"], [1], "--seed: 1 seeds for 2 features"),
        (["L1.N5", "logit:e"], 0, "different kinds"),
        (["L1.N5", "L9.N6"], 0, "--feature=L9.N6"),
        ("L1.N5", [1, -1], "--seed=-1"),
        ("L1.N5", [True], "--seed=True"),
    ],
)
def test_lists_that_cannot_be_dreamed_are_refused_before_anything_is_made(tiny, tmp_path, feature, seed, told):
    with pytest.raises(EpoError, match=told):
        epo_jax.dream(tiny, feature, SMALL, seed=seed, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_folder_names_are_safe_and_unique_and_name_seeds_where_they_differ():
    assert folder_names([("L10.N5", 3)]) == ["L10.N5"]
    assert folder_names([("L10.N5", 3), ("L10.N6", 3)]) == ["L10.N5", "L10.N6"]
    assert folder_names([("L10.N5", 0), ("L10.N5", 3)]) == ["L10.N5-seed0", "L10.N5-seed3"]
    assert folder_names([("logit: a", 0), ("logit:a", 0), ("logit:A", 0)]) == ["logit-a", "logit-a-2", "logit-A-3"]
    assert folder_names([("logit:../..", 0), ("\N{CAT FACE}", 0)]) == ["logit", "feature"]
    assert folder_names([("L1.N5", 1)] * 2 + [("L1.N5", 2)]) == ["L1.N5-seed1", "L1.N5-seed1-2", "L1.N5-seed2"]
    long = folder_names([("x" * 300, 0), ("x" * 300, 1)])
    assert len(set(long)) == 2
    assert max(map(len, long)) < 120


def test_folders_are_checked_before_anything_runs(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "build", lambda *_, **__: pytest.fail("a search was built"))
    (tmp_path / "L1.N5").write_text("mine")
    for overwrite, told in ((False, "not empty"), (True, "is a file")):
        with pytest.raises(EpoError, match=told):
            epo_jax.dream(tiny, ["L1.N5", "L1.N6"], SMALL, output=tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["L1.N5"]


def test_a_dream_that_is_not_finite_ends_alone_and_the_others_go_on(tiny, tmp_path):
    poisoned, seeds = 200, range(6)
    params = jax.tree.map(lambda leaf: leaf, tiny.params)
    table = params["embedding"]["embedding"]
    params["embedding"]["embedding"] = table.replace(table.get_value().at[poisoned].set(jnp.nan))
    broken = dataclasses.replace(tiny, params=params)
    # The shapes of the test of one dream, whose program serves here too.
    config = EPOConfig(iterations=3, population=2, children=40, length=5, top_k=300, restart_every=0)
    start = tiny.tokenizer.decode([70, 71, 72, 73, 74])
    told = []
    with pytest.raises(NonFiniteError) as caught:
        epo_jax.dream(
            broken, "L1.N5", config, seed=seeds, init_text=start, output=tmp_path / "run", callback=told.append
        )
    results = caught.value.results
    failed = [bool(result.run.stopped) for result in results]
    assert any(failed)
    assert not all(failed)
    assert caught.value.result is results[failed.index(True)]
    assert str(caught.value) == caught.value.result.run.stopped
    assert told[-1].iteration == 3
    assert told[-1].scored == sum(len(result.history) for result in results)
    for seed, result in zip(seeds, results, strict=True):
        bad = ~np.isfinite(result.history.feature)
        if result.run.stopped:
            # To the end of the iteration in which it was seen, and no further.
            assert set(result.history.iteration[bad]) == {result.history.iteration[-1]}
            assert f"iteration {result.history.iteration[-1]}" in result.run.stopped
        else:
            assert not bad.any()
            assert result.history.iteration[-1] == 3
        kept = epo_jax.load_result(tmp_path / "run" / f"L1.N5-seed{seed}")
        assert kept.run.stopped == result.run.stopped
        assert len(kept.history) == len(result.history)
    for seed in (failed.index(True), failed.index(False)):
        try:
            alone = epo_jax.dream(broken, "L1.N5", config, seed=seed, init_text=start)
        except NonFiniteError as error:
            alone = error.result
        assert_same(results[seed], alone)
        assert bool(alone.run.stopped) == failed[seed]


def test_a_callback_sees_all_dreams_together_and_its_stop_keeps_all(tiny):
    told = []

    def callback(progress: epo_jax.Progress) -> bool:
        told.append(progress)
        return progress.iteration >= 3

    long = dataclasses.replace(SMALL, iterations=500)
    made = epo_jax.dream(tiny, [*FEATURES, *FEATURES], long, seed=[*range(8)], callback=callback)
    stop = told[-1].iteration
    assert {int(result.history.iteration[-1]) for result in made} == {stop}
    assert all(result.run.stopped == f"stopped by the callback after iteration {stop}" for result in made)
    assert told[-1].scored == sum(len(result.history) for result in made) == 8 * (3 + 12 * stop)
    assert told[-1].best_feature == max(result.history.feature.max() for result in made)


def test_an_interrupt_keeps_everything_of_all_dreams(tiny, tmp_path):
    def callback(progress: epo_jax.Progress) -> None:
        if progress.iteration >= 3:
            raise KeyboardInterrupt

    long = dataclasses.replace(SMALL, iterations=500)
    made = epo_jax.dream(tiny, [*FEATURES, *FEATURES], long, callback=callback, output=tmp_path / "run")
    for result, name in zip(made, folder_names([(name, 0) for name in FEATURES * 2]), strict=True):
        last = int(result.history.iteration[-1])
        assert result.run.stopped == f"interrupted after iteration {last}"
        assert len(result.history) == 3 + 12 * last
        assert len(epo_jax.load_result(tmp_path / "run" / name).history) == len(result.history)
