from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import commands
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "measure_loading.py"
# Each starts two processes.
pytestmark = pytest.mark.slow


def measured(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *flags], cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_loading_takes_the_memory_of_the_parameters_and_two_tensors() -> None:
    done = measured("--gigabytes=0.3", "--stored=bfloat16", "--dtype=float32", "--shards=3")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert re.fullmatch(r"0\.[23]\d\d GB of bfloat16 in 3 files", lines["checkpoint"])
    size = float(lines["parameters"].split()[0])
    largest = float(lines["largest tensor"].split()[0])
    assert size == pytest.approx(0.6, rel=0.1)
    beside = next(value for name, value in lines.items() if name.startswith("above that"))
    # Programs and the tokenizer take some megabytes too.
    assert 0 < float(beside.split()[0]) < 2 * largest + 0.03


def test_a_model_that_cannot_be_loaded_is_refused_in_one_line(tmp_path: Path) -> None:
    done = commands.run([SCRIPT, f"--model={tmp_path}"], cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"measure_loading: error: --model={tmp_path}: the folder has no config.json, so it is not a model in Hugging "
        "Face format"
    ]
