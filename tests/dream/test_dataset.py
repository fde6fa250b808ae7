"""Dataset examples of a scan beside a dream, from the search to the run folder."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from broken_off import GUIDED, SMALL
from dream_command import QUICK, run
from made_results import made

import epo_jax
from epo_jax.corpus import Document, ScanConfig, load_scan, neurons_of, rescore, scan
from epo_jax.corpus.against import compare
from epo_jax.dream.dataset import with_examples
from epo_jax.models.tokenizers import token_texts


@pytest.fixture(scope="module")
def scanned(tiny, tmp_path_factory):
    """The folder of a scan of the neurons of layer 1."""
    folder = tmp_path_factory.mktemp("scan") / "scan"
    rng = np.random.default_rng(3)
    documents = [Document(f"d{n}", tiny.tokenizer.decode(rng.integers(5, 90, 70))) for n in range(3)]
    groups = [neurons_of(tiny, [1])]
    scan(tiny, documents, groups, folder, ScanConfig(length=5, context=16, keep=4), told={"corpus": ["/a/corpus"]})
    rescore(tiny, groups, folder)
    return folder


@pytest.fixture(scope="module")
def results(tiny, scanned):
    return with_examples(load_scan(scanned), [made(tiny, "L1.N5"), made(tiny, "L2.N7")], tiny.tokenizer)


def test_a_dream_has_the_scans_examples_with_their_texts(tiny, scanned, results) -> None:
    found, there = results[0].examples, load_scan(scanned)
    expected = there.examples("L1.N5")
    assert (found.corpus, found.tokens, found.positions) == ("corpus", there.tokens, there.positions)
    assert found.maximum == expected.maximum
    assert found.percentiles == expected.percentiles
    assert found.sentence == compare(expected, results[0].frontier.feature, results[0].frontier.cross_entropy).sentence(
        there.positions
    )
    assert [row.activation for row in found.rows] == expected.activation.tolist()
    assert [row.isolated_activation for row in found.rows] == expected.isolated_activation.tolist()
    assert [row.isolated_cross_entropy for row in found.rows] == expected.isolated_cross_entropy.tolist()
    for row, ids, context, position in zip(found.rows, expected.ids, expected.context, expected.position, strict=True):
        assert list(row.tokens) == token_texts(tiny.tokenizer, ids.tolist())
        assert [*row.before, *row.tokens] == token_texts(tiny.tokenizer, context[: position + 1].tolist())
    assert results[0].report_data().examples is found


def test_a_feature_that_the_scan_has_not_goes_without(results) -> None:
    assert results[1].examples is None


def test_the_run_folder_holds_them_and_gives_them_back(results, tmp_path) -> None:
    results[0].save(tmp_path, report=False)
    assert epo_jax.load_result(tmp_path).examples == results[0].examples
    results[1].save(tmp_path, overwrite=True, report=False)
    assert epo_jax.load_result(tmp_path).examples is None
    (tmp_path / "examples.json").write_text(json.dumps({"rows": [{"before": []}], "percentiles": {}}))
    with pytest.raises(epo_jax.EpoError, match="not a whole run folder"):
        epo_jax.load_result(tmp_path)


def test_a_scan_of_another_length_or_model_is_refused_before_the_search(tiny, scanned) -> None:
    def never(_: epo_jax.Progress) -> None:
        raise AssertionError("searched")

    with pytest.raises(epo_jax.EpoError, match=r"--scan=.* with 6 tokens, and the scan of .* with 5"):
        epo_jax.dream(tiny, "L1.N5", dataclasses.replace(SMALL, length=6), scan=scanned, callback=never)
    other = dataclasses.replace(tiny, source="another")
    with pytest.raises(epo_jax.EpoError, match="is of another with 5 tokens"):
        epo_jax.dream(other, "L1.N5", SMALL, scan=scanned, callback=never)


def test_the_command_tells_which_features_the_scan_has_not(tiny_folder, scanned, tmp_path, capsys) -> None:
    given = [f"--model={tiny_folder}", "--feature=L1.N5", "--feature=L2.N7", *QUICK, "--length=5", "--noattribution"]
    assert run(*given, f"--scan={scanned}", f"--output={tmp_path / 'run'}") == 0
    told = capsys.readouterr().out
    assert "no dataset examples" in told
    assert "has not L2.N7" in told
    assert (tmp_path / "run" / "L1.N5" / "examples.json").exists()
    assert run(*given, f"--scan={tmp_path}", f"--output={tmp_path / 'other'}") == 2
    assert f"--scan={tmp_path}" in capsys.readouterr().err


def test_examples_have_neuronpedias_form_too(tiny, scanned) -> None:
    found = load_scan(scanned).examples("L1.N5")
    told = found.to_neuronpedia(tiny)
    assert (told["layer"], told["index"]) == ("1", "5")
    assert len(told["activations"]) == len(found.activation)
    strongest = told["activations"][0]
    texts = [token_texts(tiny.tokenizer, ids.tolist()) for ids in found.context]
    row = texts.index(strongest["tokens"])
    np.testing.assert_allclose(strongest["values"][found.position[row]], found.activation[row], atol=1e-5)


@pytest.mark.parametrize("search", ["paper", "best"])
def test_a_dream_may_start_from_the_examples_that_are_strongest_alone(tiny, scanned, search) -> None:
    config = dataclasses.replace(SMALL if search == "paper" else GUIDED, length=5, iterations=1)
    made = epo_jax.dream(tiny, ["L1.N5", "L1.N2"], config, seed=0, init="dataset", scan=scanned)
    for one in made:
        found = load_scan(scanned).examples(one.run.feature)
        strongest = np.argsort(-found.isolated_activation, kind="stable")
        start = one.history.ids[one.history.iteration == 0]
        np.testing.assert_array_equal(start[0], found.ids[strongest[0]])
        assert {tuple(prompt) for prompt in start.tolist()} <= {tuple(prompt) for prompt in found.ids.tolist()}
        np.testing.assert_allclose(one.history.feature[0], found.isolated_activation.max(), rtol=1e-4, atol=1e-5)


def test_without_a_scan_or_without_examples_that_may_stay_a_dream_does_not_start(tiny, scanned) -> None:
    config = dataclasses.replace(SMALL, length=5)
    with pytest.raises(epo_jax.EpoError, match=r"^--init=dataset: needs --scan"):
        epo_jax.dream(tiny, "L1.N5", config, init="dataset")
    with pytest.raises(epo_jax.EpoError, match=r"^--feature=L2.N7: is none of the"):
        epo_jax.dream(tiny, "L2.N7", config, init="dataset", scan=scanned)
    banned = epo_jax.Constraints(ban_tokens=tuple(range(5, 60)))
    with pytest.raises(epo_jax.EpoError, match=r"^--init=dataset: of 4 examples of L1.N5 .* none may be a prompt"):
        epo_jax.dream(tiny, "L1.N5", config, init="dataset", scan=scanned, constraints=banned)
