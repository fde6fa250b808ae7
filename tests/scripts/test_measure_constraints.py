from __future__ import annotations

import subprocess
from pathlib import Path

import commands
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "measure_constraints.py"


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    return commands.run([SCRIPT, *flags], cwd=ROOT, timeout=600)


@pytest.mark.slow
def test_a_row_is_printed_for_each_way_with_the_hosts_share_where_it_looks(tiny_folder) -> None:
    shape = ("--feature=L1.N5", "--population=2", "--children=3", "--length=4", "--rounds=2")
    done = run(f"--model={tiny_folder}", "--ways=none,reject", *shape)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["no constraint", "`--retokenize=reject`"]
    plain, checked = (dict(zip(head, row, strict=True)) for row in rows)
    assert plain["against the first"] == "1.000"
    assert plain["host, s"] == ""
    assert 0 < float(checked["host, s"]) < float(checked["iteration, s"])
    assert float(checked["looked up / scored"]) >= 1


def test_a_way_that_there_is_not_is_refused() -> None:
    done = run("--ways=none,some")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "measure_constraints: error: --ways=some: not one of none, ascii, text, texts, freeze, reject, all"
    )
