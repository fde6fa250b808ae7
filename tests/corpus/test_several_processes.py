"""Several processes scan what one scans, and refuse different corpora."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jobs import ends, started

import epo_jax
from epo_jax.corpus import Document, ScanConfig, load_scan, neurons_of, rescore, scan

SCRIPT = str(Path(__file__).parents[2] / "scripts" / "scan_corpus.py")
SIZES = ["--neurons=0:2", "--length=4", "--context=10", "--keep=5", "--batch=1", "--dtype=float32", "--save_every=0"]


@pytest.mark.slow
def test_two_processes_of_two_devices_find_what_one_finds_and_the_first_writes_it(tiny_folder, tiny, tmp_path):
    rng = np.random.default_rng(2)
    texts = [tiny.tokenizer.decode(rng.integers(5, 90, size)) for size in (40, 9, 31)]
    (tmp_path / "corpus").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "corpus" / f"{number}.txt").write_text(text, encoding="utf-8")
    command = [SCRIPT, f"--model={tiny_folder}", *SIZES, f"--output={tmp_path / 'two'}", "--mesh=data:4"]
    (first, out, told), (second, silent, other) = ends(
        started(2, [*command, f"--corpus={tmp_path / 'corpus'}"], devices=2), 200
    )
    assert (first, second) == (0, 0), (told, other)
    assert "tokens/s" in out
    assert "tokens/s" not in silent

    documents = [Document(f"{number}.txt", text) for number, text in enumerate(texts)]
    groups = [neurons_of(tiny, [0, 1])]
    one = scan(tiny, documents, groups, tmp_path / "one", ScanConfig(length=4, context=10, keep=5, batch=3))
    rescore(tiny, groups, one)
    mine, theirs = load_scan(one), load_scan(tmp_path / "two")
    assert (theirs.tokens, theirs.positions) == (mine.tokens, mine.positions)
    for name in mine.features[::5]:
        a, b = mine.examples(name), theirs.examples(name)
        np.testing.assert_allclose(b.activation, a.activation, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(b.place, a.place)
        np.testing.assert_allclose(b.isolated_activation, a.isolated_activation, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(b.isolated_cross_entropy, a.isolated_cross_entropy, rtol=1e-4)
        np.testing.assert_array_equal(b.histogram, a.histogram)


def test_processes_that_read_different_texts_are_refused(tiny, tmp_path, monkeypatch):
    documents = [Document("a", tiny.tokenizer.decode(np.arange(5, 60)))]
    monkeypatch.setattr("epo_jax.parallel.processes.gathered", lambda value, _: [value, 1])
    with pytest.raises(epo_jax.EpoError, match="--corpus: the processes read different texts"):
        scan(tiny, documents, [neurons_of(tiny, [0])], tmp_path / "scan", ScanConfig(4, 10, 5, 3))
