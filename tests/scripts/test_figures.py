"""Figures for papers by command: what is written and said, and what is refused in one line."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import Path

import commands
import numpy as np
import pytest

import epo_jax
from epo_jax import EPOConfig
from epo_jax.attribution.result import with_texts
from epo_jax.corpus import Document, ScanConfig, load_scan, neurons_of, rescore, scan

SCRIPTS = Path(__file__).parents[2] / "scripts"
CONFIG = EPOConfig(iterations=4, population=2, children=3, length=5, top_k=40)


def run(given: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return commands.run([SCRIPTS / "figures.py", *given])


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """Three seeds of one neuron, another neuron, and a scan that has both."""
    folder = tmp_path_factory.mktemp("made")
    for seed in range(3):
        epo_jax.dream(tiny, "L0.N3", CONFIG, seed=seed, output=folder / "seeds" / str(seed), report=False)
    epo_jax.dream(tiny, "L1.N5", CONFIG, output=folder / "two" / "b", report=False)
    epo_jax.dream(tiny, "L0.N3", CONFIG, output=folder / "two" / "a", report=False)
    result = epo_jax.load_result(folder / "seeds" / "0")
    ids, values = result.frontier.ids, np.random.default_rng(1).random((*result.frontier.ids.shape, 2), np.float32)
    alternatives = np.full(values.shape, 7, np.int32)
    drops = with_texts(result.run.feature, ids, result.frontier.feature, alternatives, values, tiny.tokenizer)
    dataclasses.replace(result, attribution=drops).save(folder / "attributed", report=False)
    groups = [neurons_of(tiny, [0, 1])]
    text = tiny.tokenizer.decode(np.random.default_rng(0).integers(5, 90, 60))
    sizes = ScanConfig(length=5, context=16, keep=4, batch=2)
    rescore(tiny, groups, scan(tiny, [Document("text", text)], groups, folder / "scan", sizes), batch=8)
    rows = [f"{layer},{vector},dreams,{layer + vector}" for layer in (4, 8) for vector in (0, 1)]
    (folder / "table.csv").write_text("\n".join(["layer,vector,kind,z", *rows]), encoding="utf-8")
    (folder / "bad.csv").write_text("layer,vector\n1,2\n", encoding="utf-8")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def drawn(made):
    one, seeds, two, scanned = made / "seeds" / "0", made / "seeds", made / "two", f"--scan={made / 'scan'}"
    flags_of = {
        "seeds": ["--kind=seeds", f"--runs={seeds}"],
        "evolution": ["--kind=evolution", f"--runs={one}", "--iterations=4,1"],
        "default": ["--kind=evolution", f"--runs={one}"],
        "dataset": ["--kind=dataset", f"--runs={one}", scanned, "--width=page"],
        "several": ["--kind=dataset", f"--runs={two}", scanned],
        "attribution": ["--kind=attribution", f"--runs={made / 'attributed'}", "--prompts=1"],
        "layers": ["--kind=layers", f"--table={made / 'table.csv'}", "--title=$directions$"],
    }
    return {name: run([*flags, f"--output={made / 'drawn' / name}"]) for name, flags in flags_of.items()}


@pytest.mark.parametrize("kind", ["seeds", "evolution", "default", "dataset", "several", "attribution", "layers"])
def test_png_and_pdf_are_written_and_named(made, drawn, kind: str) -> None:
    ended = drawn[kind]
    assert (ended.returncode, ended.stderr) == (0, "")
    for ending, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        file = made / "drawn" / f"{kind}.{ending}"
        assert file.read_bytes().startswith(start)
        assert str(file) in ended.stdout.splitlines()[-1]


def test_seeds_are_summed_up_in_a_sentence(made, drawn) -> None:
    maxima = [epo_jax.load_result(made / "seeds" / str(seed)).frontier.feature.max() for seed in range(3)]
    told = drawn["seeds"].stdout.splitlines()[0]
    assert told.startswith("3 seeds of L0.N3: maximum from ")
    shown = [float(word.replace("−", "-").rstrip(",.")) for word in told.split() if word.lstrip("−")[:1].isdigit()][1:]
    np.testing.assert_allclose(shown, [min(maxima), max(maxima), np.median(maxima)], rtol=0.02)


def test_iterations_are_told_in_their_order(drawn) -> None:
    told = drawn["evolution"].stdout.splitlines()[0]
    assert 0 < told.index("at iteration 1") < told.index("at iteration 4")
    assert drawn["default"].stdout.splitlines()[0].endswith("at iteration 4.")


def test_a_comparison_says_the_sentence_that_a_reader_wants(made, drawn) -> None:
    positions = load_scan(made / "scan").positions
    for kind, features in (("dataset", ["L0.N3"]), ("several", ["L0.N3", "L1.N5"])):
        sentences = drawn[kind].stdout.splitlines()[:-1]
        assert len(sentences) == len(features)
        for sentence, feature in zip(sentences, features, strict=True):
            assert sentence.startswith("At ")
            assert feature in sentence
            assert f"best of {positions:,} tokens" in sentence or "there is no dream" in sentence
    assert (made / "drawn" / "several-summary.pdf").exists()


def test_attributions_tell_how_many_prompts_are_drawn(made, drawn) -> None:
    count = len(epo_jax.load_result(made / "attributed").frontier)
    assert drawn["attribution"].stdout.splitlines()[0] == f"L0.N3: 1 of the {count} prompts of its frontier."


def test_layers_are_told_with_their_means(drawn) -> None:
    assert drawn["layers"].stdout.splitlines()[0] == (
        "dreams: the mean z-score is from 4.50 at layer 4 to 8.50 at layer 8."
    )


def test_what_cannot_be_drawn_is_refused_in_one_line(made) -> None:
    one, seeds, two, out = made / "seeds" / "0", made / "seeds", made / "two", f"--output={made / 'refused'}"
    scanned, table = f"--scan={made / 'scan'}", made / "bad.csv"
    refused = {
        ("--kind=rings", f"--runs={seeds}", out): "flag --kind=rings: value should be one of <seeds|evolution|",
        ("--kind=seeds", out): "--runs: none given; --kind=seeds asks for run folders",
        ("--kind=seeds", f"--runs={made / 'empty'}", out): f"--runs={made / 'empty'}: holds no run",
        ("--kind=seeds", f"--runs={two}", out): f"--runs={two}: merge_frontiers: needs results of one model",
        ("--kind=evolution", f"--runs={seeds}", out): "holds 3 runs, and --kind=evolution draws one",
        ("--kind=evolution", f"--runs={one}", "--iterations=9", out): "--iterations=9: the run has iterations 0 to 4",
        ("--kind=evolution", f"--runs={one}", "--iterations=a", out): "--iterations=a: must be whole numbers",
        ("--kind=attribution", f"--runs={one}", out): f"--runs={one}: has no attributions",
        ("--kind=dataset", f"--runs={one}", out): "--scan: none given",
        ("--kind=dataset", f"--runs={one}", f"--scan={two}", out): f"--scan={two}: holds no scan",
        ("--kind=layers", out): "--table: none given",
        ("--kind=layers", f"--table={table}", out): f"--table={table}: lacks kind, z",
        ("--kind=seeds", f"--runs={seeds}", f"--output={table}/a"): f"--output={table}/a: cannot be written",
        ("--kind=dataset", f"--runs={one}", scanned, f"--output={table}/a"): "cannot be written",
    }
    for given, told in refused.items():
        ended = run(given)
        assert ended.returncode == 2, given
        assert ended.stderr.startswith("figures: error: "), given
        assert told in ended.stderr, ended.stderr
        assert ended.stderr.count("\n") == 1, ended.stderr
    assert not list(made.glob("refused*"))
