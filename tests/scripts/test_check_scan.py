"""A scan is held against PyTorch, and one that differs is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import commands
import numpy as np
import pytest

import epo_jax
from epo_jax.corpus import Document, ScanConfig, neurons_of, others_of, scan

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_scan.py"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return commands.run([SCRIPT, f"--scan={folder}"])


@pytest.fixture(scope="module")
def scanned(tiny, tmp_path_factory):
    rng = np.random.default_rng(1)
    documents = [Document(str(size), tiny.tokenizer.decode(rng.integers(5, 90, size))) for size in (60, 33, 8)]
    groups = [neurons_of(tiny, [0, 1]), *others_of([epo_jax.parse_feature("logit:a", tiny)])]
    return scan(tiny, documents, groups, tmp_path_factory.mktemp("scan") / "of", ScanConfig(5, 12, 6, 3))


@pytest.mark.slow
def test_a_scan_agrees_with_pytorch_at_every_place_and_one_whose_hits_were_changed_does_not(scanned):
    ran = check(scanned)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = ran.stdout.split()
    assert "agrees with PyTorch" in ran.stdout
    assert "hits at the same rank and place" in ran.stdout
    assert told[told.index("hits") - 3] == told[told.index("hits") - 1]

    path = scanned / "hits.npz"
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    kept["0.window"][1, 3, 2] = (kept["0.window"][1, 3, 2] + 1) % json.loads(kept["told"].tobytes())["windows"]
    np.savez(path, **kept)
    ran = check(scanned)
    assert ran.returncode == 1
    assert "differs, first in L1.N3" in ran.stdout
