"""A corpus is scanned and compared with dreams by commands, on one device and on several alike."""

from __future__ import annotations

import subprocess
from pathlib import Path

import commands
import numpy as np
import pytest

import epo_jax
from epo_jax import EPOConfig
from epo_jax.corpus import load_scan

SCRIPTS = Path(__file__).parents[2] / "scripts"
SIZES = ["--length=5", "--context=16", "--keep=4", "--batch=2"]


def command(script: str, *given: str, devices: int = 1) -> subprocess.CompletedProcess[str]:
    return commands.run([SCRIPTS / script, *given], devices=devices)


@pytest.fixture(scope="module")
def corpus(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(3)
    for number, size in enumerate((50, 90, 7)):
        (folder / f"{number}.txt").write_text(tiny.tokenizer.decode(rng.integers(5, 90, size)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def scanned(tiny_folder, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("scan") / "one"
    given = [f"--model={tiny_folder}", f"--corpus={corpus}", "--neurons=0:2", *SIZES]
    ran = command("scan_corpus.py", *given, f"--output={output}")
    assert ran.returncode == 0, ran.stderr
    assert "tokens/s" in ran.stdout
    return output


def test_four_devices_find_what_one_finds(tiny_folder, corpus, scanned, tmp_path):
    given = [f"--model={tiny_folder}", f"--corpus={corpus}", "--neurons=0:2", *SIZES, "--mesh=data:2,model:2"]
    ran = command("scan_corpus.py", *given, f"--output={tmp_path / 'four'}", devices=4)
    assert ran.returncode == 0, ran.stderr
    one, four = load_scan(scanned), load_scan(tmp_path / "four")
    assert four.features == one.features
    for name in one.features[::7]:
        a, b = one.examples(name), four.examples(name)
        np.testing.assert_allclose(b.activation, a.activation, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(b.isolated_activation, a.isolated_activation, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(b.place, a.place)


def test_dreams_are_compared_with_the_scan(tiny, scanned, tmp_path):
    config = EPOConfig(iterations=6, population=3, children=4, length=5, top_k=40)
    for name in ("L0.N3", "L1.N5"):
        epo_jax.dream(tiny, name, config, output=tmp_path / "dreams" / name, report=False)
    ran = command(
        "compare_dataset.py", f"--dreams={tmp_path / 'dreams'}", f"--scan={scanned}", f"--output={tmp_path / 'table'}"
    )
    assert ran.returncode == 0, ran.stderr
    text = (tmp_path / "table.md").read_text()
    examples = load_scan(scanned).examples("L1.N5")
    best = epo_jax.load_result(tmp_path / "dreams" / "L1.N5").frontier.feature.max()
    row = next(line for line in text.splitlines() if line.startswith("| L1.N5 |"))
    assert f"| {best:.2f} |" in row
    assert f"| {examples.isolated_activation.max():.2f} |" in row
    assert "of 2, " in text
    assert (tmp_path / "table.csv").read_text().count("\n") == 3
    for picture in ("table.png", "table.pdf", "table-summary.png", "table-summary.pdf"):
        assert (tmp_path / picture).stat().st_size > 5000
        assert picture in ran.stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "--corpus: none given"),
        (["--corpus=README.md"], "--neurons: neither these"),
        (["--corpus=nowhere.txt", "--neurons=0"], "--corpus=nowhere.txt: no such file"),
        (["--corpus=README.md", "--neurons=3:1"], "--neurons=3:1: must be a layer"),
    ],
)
def test_bad_flags_of_a_scan_end_in_a_line_and_2(tmp_path, tiny_folder, given, told):
    ran = command("scan_corpus.py", f"--model={tiny_folder}", *given, f"--output={tmp_path / 'scan'}")
    assert ran.returncode == 2
    assert told in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "scan").exists()
