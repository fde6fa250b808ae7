"""A result as other programs read it: pandas, Parquet, Neuronpedia's JSON, a notebook's cell."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import tiny_saes
from made_results import made

import epo_jax
from epo_jax.models.tokenizers import token_texts

TEMPLATE = epo_jax.Template("The fox", " dog")


@pytest.fixture(scope="module")
def result(tiny) -> epo_jax.Result:
    return made(tiny, template=TEMPLATE)


def test_the_history_is_a_table_with_texts_and_what_is_on_the_frontier(tiny, result) -> None:
    table = result.to_pandas(history=True)
    assert list(table) == ["iteration", "text", "feature", "cross_entropy", "on_frontier", "ids"]
    assert len(table) == len(result.history)
    assert table["text"][7] == "".join(token_texts(tiny.tokenizer, result.history.ids[7].tolist()))
    best = table[table["on_frontier"]].sort_values("cross_entropy")
    np.testing.assert_array_equal(best["feature"], result.frontier.feature)
    np.testing.assert_array_equal(np.stack(best["ids"]), result.frontier.ids)
    assert list(result.to_pandas()["text"]) == list(result.frontier.text)


def test_token_texts_are_in_the_run_folder_and_older_folders_do_without(result, tmp_path) -> None:
    assert set(result.token_texts) == set(np.unique(result.history.ids).tolist())
    result.save(tmp_path, report=False)
    assert epo_jax.load_result(tmp_path).token_texts == result.token_texts
    (tmp_path / "tokens.json").unlink()
    old = epo_jax.load_result(tmp_path)
    assert old.token_texts == {}
    assert set(old.to_pandas(history=True)["text"]) == {""}
    (tmp_path / "tokens.json").write_text('["a"]')
    with pytest.raises(epo_jax.EpoError, match="not a whole run folder"):
        epo_jax.load_result(tmp_path)


def test_a_parquet_file_holds_the_history_and_tells_what_it_is(result, tmp_path) -> None:
    path = result.to_parquet(tmp_path / "made" / "history.parquet")
    table = pd.read_parquet(path)
    expected = result.to_pandas(history=True)
    np.testing.assert_array_equal(np.stack(table["ids"]), result.history.ids)
    pd.testing.assert_frame_equal(table.drop(columns="ids"), expected.drop(columns="ids"), check_dtype=False)
    told = pyarrow.parquet.read_schema(path).metadata
    assert json.loads(told[b"epo_jax.run"])["command"] == result.run.command
    assert [row["text"] for row in json.loads(told[b"epo_jax.frontier"])] == list(result.frontier.text)
    with pytest.raises(epo_jax.EpoError, match="cannot be written"):
        result.to_parquet("/dev/null/history.parquet")


def test_neuronpedias_json_has_the_feature_at_each_token(tiny, result) -> None:
    found = json.loads(json.dumps(result.to_neuronpedia(tiny)))
    assert (found["modelId"], found["layer"], found["index"]) == (tiny.source, "1", "5")
    records = found["activations"]
    assert len(records) == len(result.frontier)
    assert [record["maxValue"] for record in records] == sorted((r["maxValue"] for r in records), reverse=True)
    before, behind = (tiny.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("The fox", " dog"))
    feature = epo_jax.parse_feature("L1.N5", tiny)
    by_tokens = {tuple(record["tokens"]): record for record in records}
    own = [[*ids.tolist(), *behind] for ids in result.frontier.ids]
    # Read at a position of the whole.
    expected = np.stack(
        [
            epo_jax.score(tiny, feature, [[*before, *one] for one in own], read=len(before) + at).feature
            for at in range(len(own[0]))
        ],
        axis=1,
    )
    for one, values in zip(own, expected, strict=True):
        record = by_tokens[tuple(token_texts(tiny.tokenizer, one))]
        np.testing.assert_allclose(record["values"], values, atol=1e-5)
        assert record["maxValueTokenIndex"] == int(np.argmax(values))
        assert record["minValue"] == min(record["values"])
    assert result.to_neuronpedia(tiny, layer="1-mlp", index="6")["layer"] == "1-mlp"


def test_of_a_latent_neuronpedia_has_the_activation(tiny, result, tmp_path) -> None:
    tiny_saes.write(tmp_path / "sae", "standard", "blocks.1.hook_resid_post", tiny.config.width)
    name = f"sae:{tmp_path / 'sae'}:3"
    latent = dataclasses.replace(result, run=dataclasses.replace(result.run, feature=name))
    found = latent.to_neuronpedia(tiny)
    values = np.concatenate([record["values"] for record in found["activations"]])
    assert (values >= 0).all()
    assert (values > 0).any()
    assert found["index"] == "3"
    at_last = epo_jax.score(tiny, epo_jax.parse_feature(name, tiny), _whole(tiny, result), TEMPLATE).feature
    last = {tuple(record["tokens"]): record["values"][-1] for record in found["activations"]}
    tokens = [token_texts(tiny.tokenizer, [*ids.tolist(), *_behind(tiny)]) for ids in result.frontier.ids]
    np.testing.assert_allclose([last[tuple(one)] for one in tokens], np.maximum(at_last, 0), atol=1e-4)


def _behind(lm: epo_jax.LanguageModel) -> list[int]:
    return lm.tokenizer(" dog", add_special_tokens=False)["input_ids"]


def _whole(lm: epo_jax.LanguageModel, result: epo_jax.Result) -> np.ndarray:
    before = lm.tokenizer("The fox", add_special_tokens=False)["input_ids"]
    return np.asarray([[*before, *ids.tolist(), *_behind(lm)] for ids in result.frontier.ids])


def test_what_neuronpedia_cannot_have_is_refused(tiny, result) -> None:
    other = dataclasses.replace(tiny, source="another")
    with pytest.raises(epo_jax.EpoError, match="the model given is another"):
        result.to_neuronpedia(other)
    text = dataclasses.replace(result, run=dataclasses.replace(result.run, feature="continuation: dog"))
    with pytest.raises(epo_jax.EpoError, match="continuation: dog is not a number at each token"):
        text.to_neuronpedia(tiny)


def test_a_notebook_shows_a_result_and_a_console_a_line(result) -> None:
    assert result._repr_html_().lstrip().startswith('<div class="epo-jax-result">')
    line = repr(result)
    assert line.startswith("<Result: L1.N5 in ")
    assert f"{len(result.history)} prompts scored" in line
    assert f"best {result.history.feature.max():.3f}" in line
    assert "\n" not in line
