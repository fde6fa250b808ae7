from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import epo_jax
from epo_jax import EPOConfig, EpoError, NonFiniteError, Template
from epo_jax.dream.chunks import CAPACITY
from epo_jax.dream.frontier import decode
from epo_jax.epo import algorithm as algorithms

SMALL = EPOConfig(iterations=7, population=3, children=4, length=5, top_k=40, restart_every=3)


@pytest.fixture(scope="module")
def result(tiny):
    return epo_jax.dream(tiny, "L1.N5", SMALL, seed=4)


def test_history_is_the_initial_prompts_and_then_every_child_once(result):
    history = result.history
    assert history.ids.shape == (3 + 7 * 12, 5)
    assert history.iteration.tolist() == [0] * 3 + [i for i in range(1, 8) for _ in range(12)]


def test_recorded_scores_are_those_of_whole_sequences(tiny, result):
    scores = epo_jax.score(tiny, epo_jax.parse_feature("L1.N5", tiny), result.history.ids)
    np.testing.assert_allclose(scores.feature, result.history.feature, atol=1e-5)
    np.testing.assert_allclose(scores.cross_entropy, result.history.cross_entropy, atol=1e-5)


def test_each_iterations_children_come_from_the_population_that_the_last_one_selected(tiny, result):
    algorithm = epo_jax.build(tiny, [epo_jax.parse_feature("L1.N5", tiny)], SMALL)
    state = algorithm.init(jax.random.key(4)[None])
    for iteration in range(1, 8):
        children = result.history.ids[result.history.iteration == iteration]
        parents = np.repeat(np.array(state.ids[0]), 4, axis=0)
        assert ((children != parents).sum(axis=1) == 1).all()
        state, _ = algorithm.advance(state, 1, CAPACITY)


def test_the_same_seed_gives_a_byte_identical_history_and_another_seed_another_one(tiny, result, tmp_path):
    again = epo_jax.dream(tiny, "L1.N5", SMALL, seed=4)
    other = epo_jax.dream(tiny, "L1.N5", SMALL, seed=5)
    for name in ("ids", "feature", "cross_entropy", "iteration"):
        assert getattr(result.history, name).tobytes() == getattr(again.history, name).tobytes()
    assert not np.array_equal(result.history.ids, other.history.ids)


def test_all_neurons_and_seeds_share_one_compilation(tiny, result):
    compiled = algorithms._advance._cache_size(), algorithms._init._cache_size()
    for feature, seed in (("L0.N0", 1), ("L2.N52", 2), ("L1.N7", 2**32 - 1)):
        changed = dataclasses.replace(SMALL, lambda_min=0.3, restart_every=2, iterations=2)
        epo_jax.dream(tiny, feature, changed, seed=seed)
    assert (algorithms._advance._cache_size(), algorithms._init._cache_size()) == compiled


def test_a_run_folder_reads_back_as_the_result_and_its_settings_run_it_again(tiny, tmp_path):
    template = Template(prefix="The quick", suffix=" dog", bos="always")
    made = epo_jax.dream(tiny, "logit:e", SMALL, seed=9, template=template, output=str(tmp_path / "run"))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    told = {"frontier.csv", "frontier.json", "frontier.png", "report.html", "tokens.json"}
    assert names == {"config.json", "history.npz"} | told
    read = epo_jax.load_result(tmp_path / "run")
    assert read.run == made.run
    assert read.frontier.text == made.frontier.text
    assert read.frontier.tokens == made.frontier.tokens
    for part in ("history", "frontier"):
        for name in ("ids", "feature", "cross_entropy", "iteration"):
            np.testing.assert_array_equal(getattr(getattr(read, part), name), getattr(getattr(made, part), name))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"model", "feature", "search", "seed", "dtype", "prefix", "suffix", "versions"} <= set(config)
    run = read.run
    again = epo_jax.dream(
        epo_jax.load_model(run.model, run.dtype),
        run.feature,
        run.search,
        seed=run.seed,
        template=Template(run.prefix, run.suffix, run.bos),
    )
    assert again.history.ids.tobytes() == made.history.ids.tobytes()
    assert made.frontier.text[0] == decode(tiny.tokenizer, made.frontier.ids[0])


def test_a_run_folder_of_version_0_1_still_loads(tiny, result, tmp_path):
    result.save(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    for name in ("read", "micro_batch", "mesh"):
        del config[name]
    path.write_text(json.dumps(config))
    run = epo_jax.load_result(tmp_path / "run").run
    assert run == dataclasses.replace(result.run, micro_batch=None)
    assert "micro_batch" not in run.command


@pytest.mark.parametrize("read", ["max", 2, -3])
def test_a_feature_is_read_where_it_is_asked_for_and_that_is_recorded(tiny, result, read, tmp_path):
    made = epo_jax.dream(tiny, "L1.N5", SMALL, seed=4, read=read, output=tmp_path / "run")
    scores = epo_jax.score(tiny, epo_jax.parse_feature("L1.N5", tiny), made.history.ids, read=read)
    np.testing.assert_allclose(scores.feature, made.history.feature, atol=1e-5)
    assert not np.allclose(made.history.feature[:3], result.history.feature[:3])
    assert epo_jax.load_result(tmp_path / "run").run.read == str(read)
    assert f"--read={read}" in made.run.command
    with pytest.raises(EpoError, match="reading"):
        epo_jax.merge_frontiers([result, made])


def test_merging_runs_of_two_seeds_gives_one_frontier_and_of_two_features_an_error(tiny, result):
    other = epo_jax.dream(tiny, "L1.N5", SMALL, seed=6)
    merged = epo_jax.merge_frontiers([result, other])
    assert merged.feature.max() == max(result.history.feature.max(), other.history.feature.max())
    stranger = epo_jax.dream(tiny, "L1.N6", dataclasses.replace(SMALL, iterations=1))
    with pytest.raises(EpoError, match="merge_frontiers"):
        epo_jax.merge_frontiers([result, stranger])


def test_a_callback_sees_progress_and_can_stop_the_run(tiny):
    told = []

    def callback(progress: epo_jax.Progress) -> bool:
        told.append(progress)
        return progress.iteration >= 2

    made = epo_jax.dream(tiny, "L1.N5", dataclasses.replace(SMALL, iterations=500), callback=callback)
    assert told[-1].iteration == made.history.iteration[-1] < 500
    assert made.run.stopped
    best = np.maximum.accumulate(made.history.feature)[-1]
    assert told[-1].best_feature == best
    assert told[-1].scored == len(made.history)


def test_an_interrupt_ends_the_run_and_keeps_what_it_has(tiny, tmp_path):
    def callback(progress: epo_jax.Progress) -> None:
        if progress.iteration >= 3:
            raise KeyboardInterrupt

    long = dataclasses.replace(SMALL, iterations=500)
    made = epo_jax.dream(tiny, "L1.N5", long, seed=4, callback=callback, output=tmp_path / "run")
    assert "interrupted" in made.run.stopped
    assert 3 <= made.history.iteration[-1] < 500
    assert len(epo_jax.load_result(tmp_path / "run").history) == len(made.history)


def test_a_feature_that_is_not_finite_stops_the_run_says_where_and_keeps_what_it_has(tiny, tmp_path):
    poisoned = 200
    params = jax.tree.map(lambda leaf: leaf, tiny.params)
    table = params["embedding"]["embedding"]
    params["embedding"]["embedding"] = table.replace(table.get_value().at[poisoned].set(jnp.nan))
    broken = dataclasses.replace(tiny, params=params)
    config = EPOConfig(iterations=60, population=2, children=40, length=5, top_k=300, restart_every=0)
    start = tiny.tokenizer.decode([70, 71, 72, 73, 74])
    with pytest.raises(NonFiniteError) as caught:
        epo_jax.dream(broken, "L1.N5", config, init_text=start, output=str(tmp_path / "run"))
    history = caught.value.result.history
    bad = ~np.isfinite(history.feature)
    assert bad.any()
    assert (history.ids[bad] == poisoned).any(axis=1).all()
    message = str(caught.value)
    assert "L1.N5" in message
    assert f"iteration {history.iteration[bad][0]}" in message
    assert "\n" not in message
    assert len(epo_jax.load_result(tmp_path / "run").history) == len(history)
    assert np.isfinite(caught.value.result.frontier.feature).all()


def test_initial_text_fills_every_slot(tiny):
    text = tiny.tokenizer.decode([70, 71, 72, 73, 74])
    made = epo_jax.dream(tiny, "L1.N5", SMALL, init_text=text)
    assert (made.history.ids[:3] == [70, 71, 72, 73, 74]).all()
    with pytest.raises(EpoError, match="--init_text") as caught:
        epo_jax.dream(tiny, "L1.N5", SMALL, init_text="a")
    assert "--length is 5" in str(caught.value)


def test_special_tokens_are_never_used(tiny, result):
    assert tiny.tokenizer.bos_token_id == 0
    assert not (result.history.ids == 0).any()
    assert result.history.ids.max() < len(tiny.tokenizer), "rows of the embedding without a token"


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"iterations": 0}, "--iterations"),
        ({"population": 0}, "--population"),
        ({"children": -1}, "--children"),
        ({"length": 0}, "--length"),
        ({"top_k": 0}, "--top_k"),
        ({"restart_every": -1}, "--restart_every"),
        ({"lambda_min": 2.0, "lambda_max": 1.0}, "--lambda_min"),
        ({"lambda_min": 0.0}, "--lambda_min"),
        ({"lambda_max": float("nan")}, "--lambda_max"),
        ({"restart_lambda_min": 7.0}, "--restart_lambda_min"),
        ({"search": "other"}, "--search"),
        ({"noise": 0.5}, "--search"),
        ({"search": "best", "operators": "model_swap:much"}, "--operators"),
        ({"search": "best", "operators": "model_swap:0"}, "--operators"),
        ({"search": "best", "adaptation": -1.0}, "--adaptation"),
        ({"search": "best", "oversample": 0}, "--oversample"),
        ({"search": "best", "noise": 0.0}, "--noise"),
        ({"search": "best", "positions": "first"}, "--positions"),
        ({"search": "best", "penalties": "none"}, "--penalties"),
        ({"search": "best", "kept_last": 0}, "--kept_last"),
        ({"search": "best", "random_starts": -1}, "--random_starts"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(changes, flag):
    with pytest.raises(EpoError, match=f"^{flag}="):
        EPOConfig(**changes)


def test_the_default_settings_are_the_papers():
    assert EPOConfig().to_json() == {
        "iterations": 300,
        "population": 8,
        "children": 32,
        "length": 12,
        "top_k": 512,
        "lambda_min": 0.1,
        "lambda_max": 10.0,
        "restart_every": 30,
        "restart_lambda_min": 2 / 3,
        "restart_lambda_max": 6.0,
        "search": "paper",
    }
    guided = EPOConfig(search="best", noise=0.25, archive=False, operators="model_swap:1,deletion:0.5")
    for config in (SMALL, guided):
        assert EPOConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert guided.to_json().keys() == EPOConfig().to_json().keys() | {"noise", "archive", "operators"}


def test_parameters_are_leaves_and_shapes_are_static(tiny):
    algorithm = epo_jax.build(tiny, epo_jax.parse_feature("L1.N5", tiny), SMALL)
    other = epo_jax.build(tiny, epo_jax.parse_feature("L2.N9", tiny), dataclasses.replace(SMALL, lambda_max=3.0))
    assert jax.tree.structure(algorithm) == jax.tree.structure(other)
    count = len(jax.tree.leaves(algorithm.scorer.params))
    assert count == len(jax.tree.leaves(nnx.state(nnx.merge(tiny.graphdef, tiny.params))))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_dreams_and_records_the_scores_of_whole_sequences(tiny_folder, dtype):
    half = epo_jax.load_model(tiny_folder, dtype=dtype)
    made = epo_jax.dream(half, "L1.N5", dataclasses.replace(SMALL, iterations=3))
    assert made.run.dtype == dtype
    scores = epo_jax.score(half, epo_jax.parse_feature("L1.N5", half), made.history.ids)
    np.testing.assert_allclose(scores.feature, made.history.feature, atol=0.1)
    np.testing.assert_allclose(scores.cross_entropy, made.history.cross_entropy, atol=0.1)
