"""What the paper's experiments write: tables of prompts, what seeds reach, and z-scores of directions."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pandas as pd
import pytest
from paper.depth import same_depth
from paper.directions import (
    DATASET,
    DREAMS,
    RANDOM,
    Direction,
    by_layer,
    dataset_of,
    dream_of,
    layers_table,
    prompts_of,
    table_of,
)
from paper.frontiers import about_published, frontiers_csv, merged
from paper.runs import results_of, told
from paper.seeds import published_sentence, seed_of, seeds_csv, seeds_table
from paper.tables import code, prompts
from texts.paper import facts, published, published_of

import epo_jax
from epo_jax import EPOConfig, Template
from epo_jax.corpus import Document, ScanConfig, load_scan, others_of, rescore, scan
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.scoring.random_scores import random_prompt_scores
from epo_jax.scoring.scale import Scale, sampled_prompts, scale_of
from epo_jax.sweep import sweep
from epo_jax.sweep.batches import Item, Unusable
from epo_jax.sweep.table import TABLE, failed_row, write_part

SMALL = EPOConfig(iterations=4, population=3, children=4, length=5, top_k=40, restart_every=2)
DIRECTIONS = (Direction(0, 0), Direction(2, 1))
TEXT = "The quick brown fox jumps over the lazy dog and runs away from the bear. A cat sat on a mat, 12 times or 345. "


@pytest.fixture(scope="module")
def swept(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    options = {"scale": "random", "attribution": False, "reports": False, "continuation": False}
    sweep(tiny, [one.feature for one in DIRECTIONS], SMALL, seed=[0, 1], output=folder, **options)
    return folder


@pytest.fixture(scope="module")
def features(tiny):
    return [epo_jax.parse_feature(one.feature, tiny) for one in DIRECTIONS]


@pytest.fixture(scope="module")
def scanned(tiny, features, tmp_path_factory):
    groups, folder = others_of(features), tmp_path_factory.mktemp("scan")
    scan(tiny, [Document("a", TEXT * 2), Document("b", TEXT[40:])], groups, folder, ScanConfig(length=5, context=20))
    rescore(tiny, groups, folder)
    return load_scan(folder)


def by_hand(lm, feature):
    """Mean and deviation over random prompts, each scored by itself."""
    ids = sampled_prompts(allowed_tokens(lm.tokenizer, lm.config.vocab_size), 5)
    values = np.asarray(epo_jax.score(lm, feature, ids).feature, np.float64)
    return values, values.mean(), values.std()


@pytest.fixture(scope="module")
def as_paper(tiny):
    return dataclasses.replace(tiny, source=facts()["settings"]["model"])


def test_published_prompts_are_of_the_papers_model_alone(tiny, as_paper):
    assert published_of(tiny, "L2.N0") == []
    assert [one.value for one in published_of(as_paper, "L2.N0")] == [2.59, 3.93]
    assert published_of(dataclasses.replace(as_paper, revision="step1000"), "L2.N0") == []
    assert published_of(dataclasses.replace(as_paper, revision="main"), "logit: dog")
    assert published_of(as_paper, "L2.N1") == []
    assert about_published(tiny, "The prompts").endswith("another model, and are not shown.")
    assert about_published(as_paper, "The prompts").endswith("stand beside ours.")


def test_tables_hold_prompts_and_the_published_ones_among_them_by_perplexity(swept):
    frontier = next(iter(merged(results_of(swept)).values()))
    alone = prompts("activation", frontier, []).splitlines()
    assert alone[0] == "| activation | perplexity | prompt |"
    assert len(alone) == 2 + len(frontier)
    for line, value, nats, text in zip(alone[2:], frontier.feature, frontier.cross_entropy, frontier.text, strict=True):
        assert line == f"| {value:.2f} | {math.exp(nats):,.2f} | {code(text)} |"
    among = [one for one in published() if one.feature == "L2.N0"]
    both = prompts("activation", frontier, among).splitlines()
    assert both[0] == "| activation | perplexity | prompt | found by |"
    assert sum(line.endswith("| the paper |") for line in both) == 2
    assert sum(line.endswith("| here |") for line in both) == len(frontier)
    shown = [float(line.split(" | ")[1].replace(",", "")) for line in both[2:]]
    assert shown == sorted(shown)
    assert {81.64, 262.52} <= set(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "`plain`"),
        (" a|b ", "`·a\\|b·`"),
        ("a\nb\x07", "`a⏎b\\x07`"),
        ("a``b`", "``` a``b` ```"),
        ("<b>*x*</b>", "`<b>*x*</b>`"),
    ],
)
def test_texts_are_shown_in_cells_and_not_taken_for_markdown(text, shown):
    assert code(text) == shown


def test_layers_lie_as_deep_as_in_the_paper():
    assert [same_depth(layer, 36) for layer in range(36)] == list(range(36))
    assert [same_depth(layer, 30) for layer in (4, 16, 28)] == [3, 13, 23]
    assert all(0 <= same_depth(layer, 1) < 1 for layer in range(36))


def test_frontiers_are_merged_over_seeds_and_written_whole(swept):
    results = list(results_of(swept))
    frontiers = merged(results)
    assert list(frontiers) == [one.feature for one in DIRECTIONS]
    for name, frontier in frontiers.items():
        own = [result for result in results if result.run.feature == name]
        assert frontier.feature.max() == max(result.history.feature.max() for result in own)
    table = pd.read_csv(io.StringIO(frontiers_csv(frontiers)))
    assert len(table) == sum(map(len, frontiers.values()))
    np.testing.assert_allclose(table.value, np.concatenate([one.feature for one in frontiers.values()]), rtol=1e-6)


def test_runs_are_told_with_seeds_and_prompts(swept):
    scored = sum(len(result.history) for result in results_of(swept))
    assert told([0, 1], [swept]).startswith(f"Seeds 0 to 1. 4 dreams, {scored:,} prompts scored in ")
    assert told([3, 5], [swept]).startswith("Seeds 3, 5. ")
    assert told([7], [swept]).startswith("Seed 7. ")


def test_a_dream_that_failed_is_no_result(tmp_path):
    write_part(tmp_path / TABLE, "000000", [failed_row(Unusable(Item(0, "L0.N1", 4), "it broke"))])
    with pytest.raises(epo_jax.EpoError, match=r"L0\.N1 with seed 4 was not dreamed: it broke"):
        list(results_of(tmp_path))


def test_seeds_are_told_by_all_prompts_that_they_scored(tiny, as_paper, swept):
    results = [result for result in results_of(swept) if result.run.feature == DIRECTIONS[1].feature]
    found = [seed_of(result) for result in results]
    lines = seeds_table(found).splitlines()[2:]
    for line, result in zip(lines, results, strict=True):
        history = result.history
        fluent = history.feature[history.cross_entropy < 5]
        below = f"{fluent.max():.2f}" if len(fluent) else ""
        best = history.feature.max()
        assert line == f"| {result.run.seed} | {best:.2f} | {below} | {len(result.frontier)} |"
    assert len(pd.read_csv(io.StringIO(seeds_csv(found)))) == sum(len(result.frontier) for result in results)
    assert "from 2.4 to 10.2, below 5 nats/token from 0 to 8.6" in published_sentence(as_paper, "L10.N5")
    for lm, feature in ((tiny, "L10.N5"), (as_paper, "L10.N6")):
        assert "10.2" not in published_sentence(lm, feature)


def test_random_prompts_are_scored_as_anybody_would(tiny, features):
    values, nats = random_prompt_scores(tiny, features, 5)
    for own, feature in zip(values, features, strict=True):
        np.testing.assert_allclose(own, by_hand(tiny, feature)[0], rtol=1e-4, atol=1e-4)
    ids = np.asarray(sampled_prompts(allowed_tokens(tiny.tokenizer, tiny.config.vocab_size), 5))
    np.testing.assert_allclose(nats, epo_jax.score(tiny, features[0], ids).cross_entropy, atol=1e-4)
    framed = Template("a", "b", "never")
    values, nats = random_prompt_scores(tiny, features, 5, framed)
    whole = np.pad(ids[:4], ((0, 0), (1, 1)))
    whole[:, [0]], whole[:, [-1]] = tiny.tokenizer("a")["input_ids"], tiny.tokenizer("b")["input_ids"]
    for own, feature in zip(values, features, strict=True):
        np.testing.assert_allclose(own[:4], epo_jax.score(tiny, feature, whole, framed).feature, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(nats[:4], epo_jax.score(tiny, features[0], whole, framed).cross_entropy, atol=1e-4)


def test_z_scores_are_values_less_the_mean_over_the_deviation(tiny, swept, scanned, features):
    for direction, feature in zip(DIRECTIONS, features, strict=True):
        values, mean, deviation = by_hand(tiny, feature)
        scale = scale_of(values.astype(np.float32), feature.name)
        results = [result for result in results_of(swept) if result.run.feature == direction.feature]
        pool = np.concatenate([result.history.feature for result in results])
        nats = np.concatenate([result.history.cross_entropy for result in results])
        found = dream_of(direction, scale, results)
        assert found.z == pytest.approx((pool.max() - mean) / deviation, rel=1e-4)
        assert found.cross_entropy == nats[pool.argmax()]
        assert found.z_fluent == pytest.approx((pool[nats < 6].max() - mean) / deviation, rel=1e-4)
        # The search's own scale is this one.
        np.testing.assert_allclose(
            [results[0].run.scale_offset, results[0].run.scale_unit], [mean, deviation], rtol=1e-3
        )
        examples = scanned.examples(direction.feature)
        alone = np.asarray(epo_jax.score(tiny, feature, examples.ids).feature)
        data = dataset_of(direction, scale, scanned)
        assert data.z == pytest.approx((alone.max() - mean) / deviation, rel=1e-3)
        assert len(data.prompts.feature) == len(alone) > 3


def test_a_table_of_directions_becomes_means_by_layer():
    unit, nats = Scale(1.0, 2.0), np.array([3.0, 7.0], np.float32)

    def prompts_with(layer, vector, kind, values, nats=nats):
        return prompts_of(Direction(layer, vector), kind, unit, np.array(values, np.float32), nats)

    rows = [prompts_with(layer, vector, DREAMS, [3.0 + layer, 5.0 + vector]) for layer in (4, 1) for vector in (0, 1)]
    rows += [prompts_with(4, 0, RANDOM, [2.0, 1.0], nats + 6), prompts_with(1, 0, RANDOM, [2.0, 1.0], nats + 6)]
    table = table_of(rows)
    assert list(table.columns) == ["layer", "vector", "kind", "z", "cross_entropy", "z_fluent"]
    assert list(table.layer) == sorted(table.layer)
    layers = by_layer(table, [1, 4])
    assert list(layers) == [DREAMS, RANDOM]
    np.testing.assert_allclose(layers[DREAMS], [[2.0, 2.5], [3.0, 3.0]])
    np.testing.assert_array_equal(np.isnan(layers[RANDOM]), [[False, True], [False, True]])
    np.testing.assert_allclose(by_layer(table, [1, 4], "z_fluent")[DREAMS], [[1.5, 1.5], [3.0, 3.0]])
    text = layers_table(table, [1, 4], {}).splitlines()
    assert text[0] == "| layer | dreams | dreams < 6 | random |"
    assert text[2] == "| 1 | 2.25 ± 0.25 | 1.50 ± 0.00 | 0.50 ± 0.00 (1 of 2) |"
    beside = layers_table(table, [1, 4], {4: 7.6}).splitlines()
    assert beside[0] == "| layer | dreams | dreams, published | dreams < 6 | random |"
    assert "| 7.60 |" in beside[3]
    assert "|  |" in beside[2]
    assert DATASET not in text[0]


def test_a_scan_without_isolated_prompts_is_no_dataset(tiny, features, tmp_path):
    scan(tiny, [Document("a", TEXT)], others_of(features), tmp_path, ScanConfig(length=5, context=20))
    with pytest.raises(epo_jax.EpoError, match="were not scored as isolated prompts"):
        dataset_of(DIRECTIONS[0], Scale(), load_scan(tmp_path))
