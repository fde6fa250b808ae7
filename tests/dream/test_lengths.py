"""Dreams whose prompts have a range of lengths, from the search to the run folder and back."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from broken_off import GUIDED, broken, gone_on
from plainly_continued import plainly

import epo_jax
from epo_jax import Constraints, EpoError, Template
from epo_jax.constraints import Survival
from epo_jax.dream import attributions, continuations, loop
from epo_jax.epo.lengths import bare, by_length
from epo_jax.models.tokenizers import token_texts
from epo_jax.scoring.template import frozen_tokens
from epo_jax.sweep.batches import Item
from epo_jax.sweep.table import row_of

AROUND = Template(prefix="The quick", suffix=" dog", bos="always")
RANGED = dataclasses.replace(
    GUIDED, operators="model_swap:0.3,insertion:0.3,deletion:0.4", least_length=2, fragments=True
)


MARK = Constraints(retokenize="mark")


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """A file of prompts of several lengths."""
    path = tmp_path_factory.mktemp("starts") / "prompts.jsonl"
    prompts = [[70, 71], [72, 73, 74], [75, 76, 77, 78, 79]]
    path.write_text("".join(f'{{"ids": {prompt}}}\n' for prompt in prompts))
    return path


@pytest.fixture(scope="module")
def folder(tiny, starts, tmp_path_factory):
    """A run with all that is told of prompts."""
    path = tmp_path_factory.mktemp("ranged") / "run"
    options = {"template": AROUND, "constraints": MARK, "init_file": starts}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "with_attributions", attributions.with_attributions)
        patch.setattr(loop, "with_continuations", continuations.with_continuations)
        epo_jax.dream(tiny, "L1.N5", RANGED, seed=11, output=path, **options)
    return path


@pytest.fixture(scope="module")
def result(folder):
    return epo_jax.load_result(folder)


@pytest.fixture(scope="module")
def other(tmp_path_factory, save_neox):
    """Another family with the same tokenizer."""
    path = tmp_path_factory.mktemp("other")
    save_neox(path, seed=5)
    return epo_jax.load_model(str(path), dtype="float32")


def prompts_of(ids: np.ndarray) -> list[np.ndarray]:
    """Prompts without their pads, none of which has one before a token; of several lengths."""
    prompts = [bare(one) for one in ids]
    for prompt, one in zip(prompts, ids, strict=True):
        np.testing.assert_array_equal(one[: len(prompt)], prompt)
    lengths = {len(prompt) for prompt in prompts}
    assert len(lengths) > 1
    assert 2 <= min(lengths) < max(lengths) <= 5
    return prompts


def assert_scored_as_they_are(lm, history, feature: str, lengths=(2, 3, 4, 5), **options) -> None:
    """Recorded scores are those of whole sequences that hold no pads; looked at are prompts of some lengths."""
    frozen, parsed = frozen_tokens(lm, AROUND), epo_jax.parse_feature(feature, lm)

    def alone(whole: np.ndarray) -> list[tuple[float, float]]:
        found = epo_jax.score(lm, parsed, whole, AROUND, **options)
        return list(zip(np.asarray(found.feature), np.asarray(found.cross_entropy), strict=True))

    prompts = prompts_of(history.ids)
    rows = [row for row, prompt in enumerate(prompts) if len(prompt) in lengths]
    assert {len(prompts[row]) for row in rows} == set(lengths)
    expected = by_length([np.concatenate([frozen.prefix, prompts[row], frozen.suffix]) for row in rows], alone)
    recorded = np.stack([history.feature, history.cross_entropy], axis=1)[rows]
    np.testing.assert_allclose(recorded, np.asarray(expected), atol=1e-4)


def test_recorded_scores_are_those_of_prompts_without_pads(tiny, result):
    assert len(np.unique(result.history.ids, axis=0)) == len(result.history)
    assert_scored_as_they_are(tiny, result.history, "L1.N5")


def test_the_run_folder_tells_of_each_prompt_as_many_tokens_as_it_has(tiny, folder, result):
    frontier = result.frontier
    prompts = [bare(one).tolist() for one in frontier.ids]
    assert len(set(map(len, prompts))) > 1
    assert list(frontier.text) == [tiny.tokenizer.decode(prompt) for prompt in prompts]
    assert [list(tokens) for tokens in frontier.tokens] == [token_texts(tiny.tokenizer, one) for one in prompts]
    assert [row["ids"] for row in json.loads((folder / "frontier.json").read_text("utf-8"))] == prompts
    assert pd.read_csv(folder / "frontier.csv")["ids"].map(json.loads).tolist() == prompts
    frozen = frozen_tokens(tiny, AROUND)
    survives = Survival(tiny.tokenizer, frozen.prefix.tolist(), frozen.suffix.tolist())
    assert list(frontier.retokenizes) == [survives.of(np.asarray([one]))[0] for one in prompts]
    table = result.to_pandas(history=True)
    assert table["ids"].tolist() == [bare(one).tolist() for one in result.history.ids]
    # Not what the tokenizer decodes, which makes characters of bytes that stand beside each other.
    assert table["text"].tolist() == ["".join(token_texts(tiny.tokenizer, one)) for one in table["ids"]]
    written = pd.read_parquet(result.to_parquet(folder.parent / "history.parquet"))
    assert [one.tolist() for one in written["ids"]] == table["ids"].tolist()
    assert -1 not in result.token_texts
    row = row_of(Item(0, "L1.N5", 11), result, tiny.tokenizer, batch=0, together=1, folder="run")
    assert -1 not in row["best_ids"]
    assert len(result.to_neuronpedia(tiny)["activations"]) == len(frontier)


def test_a_report_shows_no_pads(folder, result):
    assert (folder / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert 'class="strip"' in (folder / "report.html").read_text("utf-8")
    dots = epo_jax.report.plot_data.plot_data(result.report_data())["dots"]
    by_score = {round(float(y), 4): len(tokens) for y, tokens in zip(dots["y"], dots["tokens"], strict=True)}
    for ids, feature in zip(result.history.ids, result.history.feature, strict=True):
        assert by_score.get(round(float(f"{feature:.6g}"), 4), len(bare(ids))) in {2, 3, 4, 5}
    assert sorted(map(len, dots["tokens"])) == sorted(len(bare(ids)) for ids in result.history.ids)


def test_each_prompts_own_tokens_are_attributed_and_it_is_gone_on_with_behind_its_end(tiny, folder, result):
    frozen, found = frozen_tokens(tiny, AROUND), result.attribution
    feature = epo_jax.parse_feature("L1.N5", tiny)
    lengths = {len(bare(ids)) for ids in found.ids}
    assert len(lengths) > 1
    number = int(np.argmin((found.ids >= 0).sum(axis=1)))
    ids = bare(found.ids[number])
    alone = epo_jax.attribute(tiny, feature, np.concatenate([frozen.prefix, ids, frozen.suffix])[None], AROUND)
    drops = found.drop_to_worst[number], found.drop_to_best[number]
    np.testing.assert_allclose(drops[0][: len(ids)], alone.drop_to_worst[0], atol=1e-4)
    np.testing.assert_allclose(drops[1][: len(ids)], alone.drop_to_best[0], atol=1e-4)
    assert np.isnan(drops[0][len(ids) :]).all()
    assert found.alternative_tokens[number] == alone.alternative_tokens[0]
    told = json.loads((folder / "attributions.json").read_text("utf-8"))
    assert [one["ids"] for one in told["prompts"]] == [bare(ids).tolist() for ids in found.ids]
    assert len(found.to_pandas()) == sum(len(bare(ids)) for ids in found.ids)
    for ids, said in zip(result.frontier.ids, result.frontier.continuation, strict=True):
        whole = np.concatenate([frozen.prefix, bare(ids), frozen.suffix])[None]
        assert list(said) == token_texts(tiny.tokenizer, plainly(tiny, whole, 8)[0])


@pytest.mark.usefixtures("one_step_at_a_time")
def test_a_run_that_is_broken_off_goes_on_to_the_same_prompts(tiny, starts, result, tmp_path):
    options = {"config": RANGED, "template": AROUND, "constraints": MARK, "init_file": starts}
    broken(tiny, tmp_path, 3, seed=11, **options)
    again = gone_on(tiny, tmp_path, seed=11, **options)
    np.testing.assert_array_equal(again.history.ids, result.history.ids)
    np.testing.assert_array_equal(again.history.feature, result.history.feature)


def test_a_run_folders_prompts_and_shorter_texts_are_started_from_where_the_range_has_their_lengths(
    tiny, folder, result
):
    short = dataclasses.replace(RANGED, iterations=1, population=len(result.frontier))
    made = epo_jax.dream(tiny, "L1.N5", short, template=AROUND, init_file=folder)
    np.testing.assert_array_equal(made.history.ids[: len(result.frontier)], result.frontier.ids)
    expected = result.frontier.feature
    np.testing.assert_allclose(made.history.feature[: len(expected)], expected, atol=1e-4)
    for least in (0, 5):
        with pytest.raises(EpoError, match=r"^--init_file=.*has \d tokens .* and --length is 5$"):
            epo_jax.dream(tiny, "L1.N5", dataclasses.replace(short, least_length=least), init_file=folder)
    with pytest.raises(EpoError, match=r"^--init_text=a: has 1 tokens .*--length is 5 and --least_length 2$"):
        epo_jax.dream(tiny, "L1.N5", short, init_text="a")


@pytest.mark.parametrize("retokenize", ["off", "reject"])
def test_banned_texts_are_in_no_prompt_whatever_its_length_and_rejected_ones_never_scored(tiny, retokenize):
    asked = Constraints(ban_text=("e", "x do"), retokenize=retokenize)
    made = epo_jax.dream(tiny, "L1.N5", RANGED, seed=1, constraints=asked, template=AROUND)
    texts = [tiny.tokenizer.decode(prompt) for prompt in prompts_of(made.history.ids)]
    assert not any("e" in text.lower() or f"{text} dog".lower().find("x do") >= 0 for text in texts)
    if retokenize == "reject":
        frozen = frozen_tokens(tiny, AROUND)
        assert Survival(tiny.tokenizer, frozen.prefix.tolist(), frozen.suffix.tolist()).of(made.history.ids).all()


def test_several_dreams_may_have_another_models_fluency(tiny, other, starts):
    features, options = ["logit:e", "logit:a"], {"template": AROUND, "init_file": starts}
    made = epo_jax.dream(tiny, features, RANGED, seed=[1, 2], fluency_model=other, **options)
    for feature, one in zip(features, made, strict=True):
        assert_scored_as_they_are(tiny, one.history, feature, (2, 5), fluency_model=other)
