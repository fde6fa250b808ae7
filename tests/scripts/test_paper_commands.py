"""The paper's experiments by command: their tables hold what the runs found, and a second call dreams nothing anew."""

from __future__ import annotations

import subprocess
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import pytest
from paper.directions import KINDS
from paper.tables import code

import epo_jax
from epo_jax.corpus import load_scan
from epo_jax.report.layers_table import read_layers

SCRIPTS = Path(__file__).parents[2] / "scripts"
TINY = ("--iterations=3", "--population=3", "--children=4", "--length=5", "--top_k=40")


def command(script: str, *given: str) -> subprocess.CompletedProcess[str]:
    return commands.run([SCRIPTS / f"{script}.py", *given])


def ran_by(script: str, output: Path, *given: str, calls: int = 1) -> tuple[str, list[epo_jax.Result]]:
    """What the first call wrote for people to read, and all runs; further calls change neither."""
    written = []
    for _ in range(calls):
        ran = command(script, *given, *TINY, f"--output={output}")
        assert ran.returncode == 0, ran.stderr
        tables = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
        histories = {path: path.stat().st_mtime_ns for path in output.rglob("history.npz")}
        written.append((tables, histories))
    assert written[0] == written[-1]
    text = next(content for name, content in written[0][0].items() if name.endswith(".md")).decode()
    assert f"\npython scripts/{script}.py {given[0]} " in text
    return text, [epo_jax.load_result(path.parent) for path in sorted(written[0][1])]


def holds(text: str, results: list[epo_jax.Result]) -> bool:
    """Whether a table has a row for each prompt of frontiers."""
    rows = [
        f"| {value:.2f} | {np.exp(np.float64(nats)):,.2f} | {code(prompt)} |"
        for result in results
        for value, nats, prompt in zip(
            result.frontier.feature, result.frontier.cross_entropy, result.frontier.text, strict=True
        )
    ]
    return len(rows) > 0 and all(row in text for row in rows)


def test_six_neurons_become_tables_of_their_frontiers(tiny_folder, tmp_path):
    text, results = ran_by("paper_neurons", tmp_path / "here", f"--model={tiny_folder}")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## L0.N0", "## L0.N1", "## L1.N2", "## L1.N3", "## L1.N4", "## L2.N5"
    ]  # fmt: skip
    assert len(results) == 6
    assert holds(text, results)
    assert "another model, and are not shown" in text
    assert "3 iterations, 3 slots with 4 children each, 5 tokens, top 40" in text


@pytest.mark.slow
def test_logits_are_dreamed_without_the_tokens_own_text(tiny_folder, tmp_path):
    given = (f"--model={tiny_folder}", "--target=a", "--target=X", "--ban_text=q")
    text, results = ran_by("paper_logits", tmp_path / "here", *given)
    assert {result.run.feature: result.run.constraints.ban_text for result in results} == {
        "logit:a": ("q", "a"), "logit:X": ("q", "X")
    }  # fmt: skip
    assert holds(text, results)
    for result in results:
        target = result.run.feature.removeprefix("logit:").lower()
        assert not any(target in prompt.lower() for prompt in result.frontier.text)


@pytest.mark.slow
def test_seeds_become_a_picture_and_a_frontier_of_all(tiny_folder, tmp_path):
    given = (f"--model={tiny_folder}", "--feature=L1.N5", "--seed=0:3")
    text, results = ran_by("paper_seeds", tmp_path / "here", *given)
    best = [float(result.history.feature.max()) for result in results]
    assert f"3 seeds of L1.N5: maximum from {min(best):.2f} to {max(best):.2f}" in text
    merged = epo_jax.merge_frontiers(results)
    assert all(code(prompt) in text for prompt in merged.text)
    assert (tmp_path / "here" / "seeds.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_directions_become_z_scores_of_dreams_dataset_and_random_prompts(tiny_folder, tmp_path):
    (tmp_path / "corpus.txt").write_text("The quick brown fox jumps over the lazy dog. A cat sat on 12 mats. " * 3)
    given = (f"--model={tiny_folder}", f"--corpus={tmp_path / 'corpus.txt'}", "--layers=2,0", "--vectors=2")
    text, results = ran_by("paper_residual", tmp_path / "here", *given, calls=2)
    table = pd.read_csv(tmp_path / "here" / "residual.csv")
    assert len(table) == 2 * 2 * 3
    layers, kinds = read_layers(tmp_path / "here" / "residual.csv")
    assert layers == [0, 2]
    assert {kind: values.shape for kind, values in kinds.items()} == dict.fromkeys(KINDS, (2, 2))
    assert list(kinds) == list(KINDS)
    scan = load_scan(tmp_path / "here" / "scan")
    for result in results:
        run = result.run
        layer, number = run.feature.removeprefix("residual:L").split(":random:")
        own = table[(table.layer == int(layer)) & (table.vector == int(number) % 1000)].set_index("kind")
        alone = scan.examples(run.feature).isolated_activation
        for kind, values in (("dreams", result.history.feature), ("dataset", alone)):
            expected = (values.max() - run.scale_offset) / run.scale_unit
            assert own.z[kind] == pytest.approx(expected, rel=1e-3)
    assert run.scale == "random"
    assert "| layer | dreams |" in text
    for name in ("residual_layers.png", "residual_directions.png"):
        assert (tmp_path / "here" / name).read_bytes().startswith(b"\x89PNG")


REFUSED = [
    ("paper_neurons", ["--features=L99.N1"], "--feature=L99.N1: ", True),
    ("paper_logits", ["--target= "], "--target=", False),
    ("paper_logits", ["--target= zzz"], "--target= zzz: ' zzz' must be one token", False),
    ("paper_residual", ["--vectors=0"], "--vectors=0: must be 1 to 1000", False),
    ("paper_residual", ["--layers=3"], "--layers=3: must be layers of the model, 0 to 2", False),
    ("paper_residual", ["--read=max"], "--read=max: directions are read at the last token", False),
    ("paper_residual", ["--corpus=nowhere.txt"], "--corpus=nowhere.txt: ", False),
    ("paper_residual", ["--corpus=README.md", "--suffix=b"], "--suffix: nothing stands behind", False),
]


@pytest.mark.parametrize(
    ("script", "given", "said"),
    [
        pytest.param(*case, id=" ".join([script, *given]), marks=[] if quick else [pytest.mark.slow])
        for script, given, said, quick in REFUSED
        for case in [(script, given, said)]
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(tiny_folder, tmp_path, script, given, said):
    ran = command(script, f"--model={tiny_folder}", *TINY, f"--output={tmp_path / 'here'}", *given)
    assert ran.returncode == 2
    assert len(ran.stderr.strip().splitlines()) == 1
    assert said in ran.stderr
    assert not list((tmp_path / "here").rglob("*.md"))


@pytest.mark.slow
def test_an_output_that_is_a_file_is_refused_before_anything_is_loaded(tiny_folder, tmp_path):
    (tmp_path / "here").write_text("")
    ran = command("paper_neurons", f"--model={tiny_folder}", f"--output={tmp_path / 'here'}")
    assert ran.returncode == 2
    assert f"--output={tmp_path / 'here'}: is a file; give a folder" in ran.stderr
