"""How the model goes on after the frontier's prompts, from the search to the run folder."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from broken_off import SMALL
from dream_command import QUICK, run
from made_results import made
from plainly_continued import plainly

import epo_jax
from epo_jax.dream import continuations, loop
from epo_jax.models.tokenizers import token_texts
from epo_jax.scoring.template import frozen_tokens

TEMPLATE = epo_jax.Template("The fox", " dog")


@pytest.fixture(scope="module")
def results(tiny) -> list[epo_jax.Result]:
    found = [made(tiny, "L1.N5", 4, TEMPLATE), made(tiny, "L2.N7", 5, TEMPLATE)]
    return continuations.with_continuations(tiny, found, frozen_tokens(tiny, TEMPLATE))


def test_each_prompt_is_gone_on_with_behind_the_frozen_text(tiny, results) -> None:
    before, behind = (tiny.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("The fox", " dog"))
    for result in results:
        whole = np.asarray([[*before, *ids.tolist(), *behind] for ids in result.frontier.ids])
        expected = [tuple(token_texts(tiny.tokenizer, tokens)) for tokens in plainly(tiny, whole, 8)]
        assert result.frontier.continuation == tuple(expected)


def test_the_run_folder_holds_them_and_gives_them_back(results, tmp_path) -> None:
    result = results[0]
    result.save(tmp_path, report=False)
    expected = [list(tokens) for tokens in result.frontier.continuation]
    rows = json.loads((tmp_path / "frontier.json").read_text("utf-8"))
    assert [row["continuation"] for row in rows] == expected
    assert pd.read_csv(tmp_path / "frontier.csv")["continuation"].map(len).gt(0).all()
    again = epo_jax.load_result(tmp_path)
    assert again.frontier.continuation == result.frontier.continuation
    assert list(again.to_pandas()["continuation"]) == expected
    assert again.report_data().continuations[1] == result.frontier.continuation[1]
    assert not again.report_data().columns


def test_frontiers_that_are_merged_keep_them(results) -> None:
    merged = epo_jax.merge_frontiers([results[0], results[0]])
    assert merged.continuation == results[0].frontier.continuation
    without = dataclasses.replace(results[0], frontier=dataclasses.replace(results[0].frontier, continuation=None))
    assert epo_jax.merge_frontiers([results[0], without]).continuation is None


def test_nothing_is_gone_on_with_if_nobody_asks_or_a_run_was_stopped(tiny, tiny_folder, tmp_path, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("gone on")

    monkeypatch.setattr(loop, "with_continuations", never)
    config = dataclasses.replace(epo_jax.PRESETS["quick"], iterations=2, population=2, children=2, length=4, top_k=30)
    assert epo_jax.dream(tiny, "L1.N5", config, callback=lambda _: True).run.stopped
    given = [f"--model={tiny_folder}", "--feature=L1.N5", *QUICK, f"--output={tmp_path / 'run'}"]
    assert run(*given, "--nocontinuation") == 0
    with pytest.raises(AssertionError, match="gone on"):
        run(*given, "--overwrite")


def test_ctrl_c_meanwhile_keeps_the_result_and_is_told(tiny, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def never(*_: object) -> None:
        raise AssertionError("tried")

    monkeypatch.setattr(loop, "with_continuations", continuations.with_continuations)
    monkeypatch.setattr(continuations, "continuations", interrupted)
    monkeypatch.setattr(loop, "with_attributions", never)
    result = epo_jax.dream(tiny, "L1.N5", SMALL)
    assert result.frontier.continuation is None
    assert result.run.stopped.startswith("interrupted after the last iteration")
    assert len(result.history) == 3 + 7 * 12
