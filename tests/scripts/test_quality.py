"""The referee as a program: runs that are done stay, others join the tables, and input that it refuses."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path

import commands
import numpy as np
import pytest
import tiny_models
import transformers
from judging.figure import alike, curves_figure, median_curve
from judging.measures import hypervolume
from judging.records import Record, Run, add_record, check_settings, read_records
from judging.tables import features_table, held_against, methods_table, page
from judging.trace import Trace
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from epo_jax.errors import EpoError
from epo_jax.report.saved_figure import write_figure

SCRIPT = Path(__file__).parents[2] / "scripts" / "quality.py"
WORDS = (
    "The quick brown fox jumps over the lazy dog and runs away from the bear while seven green apples fall into water "
)
SIZES = ("--iterations=2", "--population=2", "--children=3")


@pytest.fixture(scope="module")
def worded(tmp_path_factory) -> Path:
    """A tiny model some of whose tokens are whole words."""
    folder = tmp_path_factory.mktemp("worded")
    tiny_models.save(folder, "llama", num_hidden_layers=2, vocab_size=420)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([WORDS * 4], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


def command(*given: str) -> subprocess.CompletedProcess[str]:
    return commands.run([SCRIPT, *given])


@pytest.mark.slow
def test_runs_that_are_done_stay_and_others_join_the_tables(worded, tmp_path):
    common = (f"--model={worded}", "--list=tune", *SIZES, f"--output={tmp_path}")
    first = command(*common, "--features=1", "--methods=paper")
    assert first.returncode == 0, first.stderr
    lines = (tmp_path / "tune.jsonl").read_text()
    variant = ("--methods=random,paper", "--search_options=top_k=3;restart_every=0", "--label=few")
    second = command(*common, "--features=2", *variant)
    assert second.returncode == 0, second.stderr
    assert len(second.stdout.splitlines()) == 4
    assert (tmp_path / "tune.jsonl").read_text().startswith(lines)
    records = read_records(tmp_path / "tune.jsonl")
    assert [record.run.method for record in records] == ["paper", "random", "few", "random", "few"]
    assert records[2].run.settings["options"] == {"top_k": 3, "restart_every": 0}
    assert records[2].about["config"]["top_k"] == 3
    text = (tmp_path / "tune.md").read_text()
    assert all(f"| {method} | {runs} |" in text for method, runs in (("paper", 1), ("random", 2), ("few", 2)))
    assert (tmp_path / "tune.png").stat().st_size > 1000
    for record in records:
        trace = Trace.load(tmp_path / "runs" / record.run.method / f"{record.run.slug}.npz")
        assert len(trace) == record.measures.prompts
        z = record.scale.of(trace.feature)
        assert record.measures.hypervolume == hypervolume(z, trace.cross_entropy)
        assert record.reached[-1] == pytest.approx(record.measures.hypervolume, abs=1e-4)
        assert record.measures.rows <= record.run.settings["budget"]
    again = command(*common, "--features=2", "--methods=random,paper", "--search_options=top_k=4", "--label=few")
    assert again.returncode == 2
    assert re.search("quality: error: --output: has runs of few with variant_of=paper, options=", again.stderr)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--methods=paper,none",), "--methods=none: not one of paper, "),
        (("--methods=",), "--methods"),
        (("--methods=dataset",), "--corpus: none given"),
        (("--methods=dataset", "--corpus=/nowhere"), "--corpus=/nowhere: no such file"),
        (("--label=a",), "--label and --search_options: a variant needs both"),
        (("--label=a", "--search_options=topk=2"), "--search_options=topk=2: must be name=value"),
        (("--label=gcg", "--search_options=top_k=2"), "--label=gcg: is a method's own name"),
        (("--methods=paper,random", "--label=a", "--search_options=top_k=2"), "--search_options: random has none"),
        (("--label=a/b", "--search_options=top_k=2"), "--label=a/b: must be"),
        (("--seeds=0",), "--seeds=0: must be at least 1"),
        (("--children=0",), "--children=0: must be a whole number"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_run_is_refused_in_a_line(given, message, tmp_path):
    ran = command(f"--output={tmp_path / 'new'}", *given)
    assert ran.returncode == 2
    assert message in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def record(method: str, feature: str, seed: int, curve: list[float], fluent: float | None = None) -> Record:
    measures = {
        "prompts": 5, "rows": 95, "seconds": 1.0, "best": 4.0, "best_below_6": fluent, "best_below_4": None,
        "hypervolume": curve[-1], "surviving": curve[-1], "dead": False, "repetition": None, "survival": None,
    }  # fmt: skip
    settings = {"iterations": 1, "population": 1, "children": 1, "length": 12, "budget": 100}
    run = {"model": "m", "method": method, "feature": feature, "seed": seed, "settings": settings}
    rest = {"scale": {"offset": 0.0, "unit": 1.0}, "frontier": [{"text": "a|b\u2028", "z": 1.0, "cross_entropy": 2.0}]}
    points = [(10 * number, value) for number, value in enumerate(curve, 1)]
    return Record.from_line(json.dumps({**run, **rest, "measures": measures, "curve": points, "about": {}}))


RECORDS = [
    record("paper", "L1.N2", 0, [0.0, 1.0, 2.0, 2.0], 3.0),
    record("paper", "logit: |", 0, [1.0, 1.0, 1.0, 4.0]),
    record("other", "L1.N2", 0, [2.0, 4.0, 4.0, 4.0], 5.0),
    record("other", "logit: |", 0, [0.0, 0.0, 0.0, 3.0]),
    record("other", "residual:L1:random:1", 0, [1.0, 1.0, 1.0, 1.0]),
]


def test_records_are_read_as_they_were_written(tmp_path):
    for one in RECORDS:
        add_record(tmp_path / "a.jsonl", one)
    assert read_records(tmp_path / "a.jsonl") == RECORDS
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"model": "m"}\n')
    with pytest.raises(EpoError, match=r"line 6 of a.jsonl: no run"):
        read_records(tmp_path / "a.jsonl")
    assert read_records(tmp_path / "none.jsonl") == []


def test_a_name_stands_for_one_method(tmp_path):
    settings = RECORDS[0].run.settings
    check_settings(RECORDS, "m", "paper", settings)
    check_settings(RECORDS, "m", "paper", {**settings, "budget": 200, "options": {}})
    check_settings(RECORDS, "n", "paper", {**settings, "options": {}})
    with pytest.raises(EpoError, match="has runs of paper with no options, and these are to be with corpus=b"):
        check_settings(RECORDS, "m", "paper", {**settings, "corpus": "b"})


def test_features_that_differ_in_signs_alone_have_files_of_their_own():
    slugs = {Run("m", "a", feature, seed, {}).slug for feature in ("logit: a", "logit:-a", "L1.N2") for seed in (0, 1)}
    assert len(slugs) == 6
    assert all(re.fullmatch(r"[\w.-]+", slug) for slug in slugs)


def test_a_method_is_held_against_the_paper_where_both_ran():
    found = held_against("other", RECORDS)
    assert (found.pairs, found.features) == (2, 2)
    assert found.ratio.value == (4.0 / 2.0 + 3.0 / 4.0) / 2
    assert found.won.value == 0.5
    # It reaches the paper's 2.0 after 10 of the paper's 30 rows, and never the 4.0.
    assert found.rows.value == np.inf
    assert held_against("nobody", RECORDS) is None


def test_best_is_held_against_every_other_method_but_once():
    best = [dataclasses.replace(one, run=dataclasses.replace(one.run, method="best")) for one in RECORDS[:2]]
    whole = page("Title", "Told.", [*RECORDS, *best])
    others = whole[whole.index("## `best` against the others") : whole.index("## Feature by feature")]
    rows = [line for line in others.splitlines() if line.startswith("| ")][2:]
    # 2.0 and 4.0 of `best`, which are the paper's here, against 4.0 and 3.0.
    assert len(rows) == 1
    assert rows[0].startswith("| other | 2 | 2 | 0.92 (")
    nothing = dataclasses.replace(RECORDS[2].measures, hypervolume=0.0)
    less = [
        dataclasses.replace(one, measures=nothing) if one.run.method == "other" else one for one in [*RECORDS, *best]
    ]
    assert "| other | 2 | 2 | infinite (infinite to infinite) |" in page("Title", "Told.", less)


def test_tables_tell_what_there_is_not():
    methods = ["paper", "other"]
    measured = methods_table(methods, RECORDS).splitlines()
    assert measured[2].startswith(
        "| paper | 2 | 3.00 | 3.00 | 4.00 | none | none | none | 0% | none | none | 5 | 95 | 1 |"
    )
    by_feature = features_table(methods, RECORDS).splitlines()
    assert by_feature[2:] == [
        "| `L1.N2` | neuron | 2.00 (3.00) | 4.00 (5.00) |",
        "| `logit: \\|` | logit | 4.00 (none) | 3.00 (none) |",
        "| `residual:L1:random:1` | direction |  | 1.00 (none) |",
    ]
    whole = page("Title", "Told.", RECORDS)
    assert "| other | 2 | 2 | 1.38 (" in whole
    assert "## Against" not in page("Title", "Told.", [one for one in RECORDS if one.run.method == "other"])


def test_the_spread_of_seeds_is_told_of_features_with_several():
    again = [
        dataclasses.replace(
            one, run=dataclasses.replace(one.run, seed=1), measures=dataclasses.replace(one.measures, hypervolume=found)
        )
        for one, found in zip(RECORDS[:2], (6.0, 4.0), strict=True)
    ]
    # Of 2 and 6, deviation 2.83 and mean 4; of 4 and 4, none.
    assert "| none | 35% | 0% |" in methods_table(["paper"], [*RECORDS[:2], *again]).splitlines()[2]
    assert "| none | 71% | 0% |" in methods_table(["paper"], [*RECORDS[:2], again[0]]).splitlines()[2]


def test_medians_are_drawn_of_the_same_features():
    fewer = RECORDS[:3]
    assert [one.run.method for one in fewer] == ["paper", "paper", "other"]
    assert alike(fewer) == [fewer[:2], [fewer[0], fewer[2]]]
    assert alike(RECORDS[:4]) == [RECORDS[:4]]
    assert alike([]) == [[]]
    assert len(curves_figure(fewer, "Title").axes) == 2 + 1


def test_curves_are_drawn_in_units_of_the_papers(tmp_path):
    drawn = median_curve(RECORDS[2:4], {("L1.N2", 0): 2.0, ("logit: |", 0): 4.0})
    assert drawn.tolist() == [0.5, 1.0, 1.0, (2.0 + 0.75) / 2]
    figure = curves_figure(RECORDS, "Title")
    # One row of panels, since all methods ran both. Of the direction there is no run of the paper's search.
    assert len(figure.axes) == 2
    assert len(curves_figure([one for one in RECORDS if one.run.method == "other"], "Title").axes) == 3
    files = write_figure(figure, tmp_path / "a")
    assert files[0].read_bytes() == write_figure(curves_figure(RECORDS, "Title"), tmp_path / "b")[0].read_bytes()
