"""Which tokens of the frontier's prompts matter, from the search to the run folder."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import epo_jax
from epo_jax.dream import attributions, loop
from epo_jax.dream.attributions import attributed_rows
from epo_jax.dream.frontier import Frontier

SMALL = epo_jax.EPOConfig(iterations=5, population=3, children=4, length=5, top_k=40)


def frontier(cross_entropy: list[float]) -> Frontier:
    count = len(cross_entropy)
    return Frontier(
        ids=np.arange(count * 12, dtype=np.int32).reshape(count, 12),
        text=("",) * count,
        tokens=(("",) * 12,) * count,
        feature=np.arange(count, dtype=np.float32),
        cross_entropy=np.asarray(cross_entropy, np.float32),
        iteration=np.zeros(count, np.int32),
    )


def test_few_prompts_are_all_tried_and_of_many_the_most_fluent_the_best_ones_and_some_between() -> None:
    nats = [2.0, 3.0, 4.0, 5.0, 5.9, 6.5, 7.0, 8.0, 9.0, 10.0, 11.0]
    assert attributed_rows(frontier([]), 4000, 0.1) == []
    assert attributed_rows(frontier(nats[:3]), 100, 0.1) == [0, 1, 2]
    assert attributed_rows(frontier(nats), 100, 0.1) == [0, 4, 10]
    assert attributed_rows(frontier(nats), 384 * 50, 0.1) == [0, 2, 4, 7, 10]
    assert attributed_rows(frontier([value + 5 for value in nats]), 384 * 40, 0.1) == [0, 2, 5, 10]
    assert attributed_rows(frontier(nats), 384 * 110, 0.1) == list(range(11))


@pytest.fixture(scope="module")
def results(tiny):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "with_attributions", attributions.with_attributions)
        return epo_jax.dream(tiny, ["L1.N5", "L2.N7"], SMALL, seed=4)


@pytest.mark.parametrize("share", [0, -0.5, float("nan"), True])
def test_a_share_that_cannot_be_is_one_line(tiny, share) -> None:
    with pytest.raises(epo_jax.EpoError, match=r"--attribution_share=.*: must be a number above 0") as caught:
        epo_jax.dream(tiny, "L1.N5", SMALL, attribution_share=share)
    assert "\n" not in str(caught.value)


def test_a_larger_share_tries_the_whole_frontier(tiny, monkeypatch) -> None:
    monkeypatch.setattr(loop, "with_attributions", attributions.with_attributions)
    result = epo_jax.dream(tiny, "L1.N5", SMALL, seed=4, attribution_share=100.0)
    assert len(result.attribution) == len(result.frontier)


def test_each_dreams_prompts_are_attributed_by_its_own_feature(tiny, results) -> None:
    for result in results:
        rows = attributed_rows(result.frontier, len(result.history))
        feature = epo_jax.parse_feature(result.run.feature, tiny)
        found, expected = result.attribution, epo_jax.attribute(tiny, feature, result.frontier.ids[rows])
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.baseline, result.frontier.feature[rows], atol=1e-5)
        np.testing.assert_allclose(found.drop_to_worst, expected.drop_to_worst, atol=1e-4)
        np.testing.assert_allclose(found.drop_to_best, expected.drop_to_best, atol=1e-4)
        assert found.feature == result.run.feature


def test_the_run_folder_holds_them_and_gives_them_back(results, tmp_path) -> None:
    result = results[0]
    result.save(tmp_path)
    assert (tmp_path / "attributions.png").read_bytes().startswith(b"\x89PNG")
    assert 'class="strip"' in (tmp_path / "report.html").read_text("utf-8")
    again = epo_jax.load_result(tmp_path)
    assert again.attribution is not None
    assert again.attribution.to_json() == result.attribution.to_json()
    assert again.report_data().attributions.keys() == set(attributed_rows(result.frontier, len(result.history)))
    dataclasses.replace(result, attribution=None).save(tmp_path, overwrite=True)
    assert not list(tmp_path.glob("attributions*"))
    assert epo_jax.load_result(tmp_path).attribution is None
    assert 'class="strip"' not in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize("damage", ["not json", "{}", '{"feature": "L1.N5", "prompts": [{"ids": [1, 2]}]}', "other"])
def test_a_damaged_file_of_attributions_is_one_line(results, tmp_path, damage) -> None:
    results[0].save(tmp_path)
    path = tmp_path / "attributions.json"
    values = json.loads(path.read_text("utf-8"))
    values["prompts"][0]["ids"][0] += 1
    path.write_text(json.dumps(values) if damage == "other" else damage)
    with pytest.raises(epo_jax.EpoError, match="not a whole run folder") as refused:
        epo_jax.load_result(tmp_path)
    assert "\n" not in str(refused.value)


def test_nothing_is_tried_if_nobody_asks_or_the_run_was_stopped(tiny, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("tried")

    monkeypatch.setattr(loop, "with_attributions", never)
    assert epo_jax.dream(tiny, "L1.N5", SMALL, attribution=False).attribution is None
    stopped = epo_jax.dream(tiny, "L1.N5", SMALL, callback=lambda _: True)
    assert stopped.run.stopped
    assert stopped.attribution is None


def test_ctrl_c_meanwhile_keeps_the_result_and_is_told(tiny, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "with_attributions", attributions.with_attributions)
    monkeypatch.setattr(attributions, "replaced", interrupted)
    result = epo_jax.dream(tiny, "L1.N5", SMALL)
    assert result.attribution is None
    assert result.run.stopped.startswith("interrupted after the last iteration")
    assert len(result.history) == 3 + 5 * 12
