"""The companion notebook: its text runs from top to bottom, and the executed copy holds the same cells."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from executing.notebook import execute, read

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TEXT, EXECUTED = NOTEBOOKS / "dreaming.py", NOTEBOOKS / "dreaming.ipynb"
SMALL = {"ITERATIONS": 8, "CHILDREN": 3, "ALTERNATIVES": 3, "CORPUS_TOKENS": 600}
# What a reader looks at, as numbers.
NUMBERS = """
import json

print(json.dumps({
    "scored": len(result.history),
    "frontier": frontier.feature.tolist(),
    "at_first": float(result.history.feature[result.history.iteration == 0].max()),
    "tried": list(attribution.values.shape),
    "drop": float(attribution.drop_to_worst.max()),
    "tokens": scanned.tokens,
    "dataset": comparison.dataset,
    "held_out": held_out,
    "random": float(random.max()),
    "dreamed": float(dreamed.frontier.feature.max()),
}))
"""


def cells(path: Path) -> list[tuple[str, str, list[str]]]:
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in jupytext.read(path).cells]


def code_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts_of(cell: nbformat.NotebookNode) -> list[str]:
    found = []
    for output in cell.outputs:
        found.append(output.get("text", ""))
        found.extend(str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/"))
    return found


def test_the_executed_notebook_holds_the_cells_of_its_text():
    assert cells(EXECUTED) == cells(TEXT)


def test_every_cell_of_the_executed_notebook_ran_in_its_order_and_none_failed():
    code = code_of(nbformat.read(EXECUTED, 4))
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


def test_the_executed_notebook_is_small_and_tells_nothing_of_the_machine():
    assert EXECUTED.stat().st_size < 1e6
    for cell in code_of(nbformat.read(EXECUTED, 4)):
        assert "execution" not in cell.metadata
        for text in texts_of(cell):
            assert not re.search(r"/(home|root|tmp|usr|work|opt|var|mnt|Users)/", text)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_on_the_embedded_model(tmp_path):
    notebook = read(TEXT)
    notebook.cells.append(nbformat.v4.new_code_cell(NUMBERS, id="cell-numbers"))
    code = code_of(execute(notebook, tmp_path, SMALL))
    found = json.loads(texts_of(code[-1])[0])
    # Two beginnings of eight prompts; children that were scored before are left out.
    most = 2 * 8 + SMALL["ITERATIONS"] * 8 * SMALL["CHILDREN"]
    assert 0.8 * most < found["scored"] <= most
    assert sorted(found["frontier"]) == found["frontier"]
    assert found["frontier"][-1] > found["at_first"] > 0
    assert found["tried"][1:] == [12, SMALL["ALTERNATIVES"]]
    assert found["drop"] > 0
    assert found["tokens"] >= SMALL["CORPUS_TOKENS"]
    assert found["dataset"] > 0
    assert found["held_out"][0] > 0 > found["held_out"][1]
    assert found["dreamed"] > found["random"]
    assert any("nats/token, the cross-entropy of the dataset's best example" in text for text in texts_of(code[-6]))
    assert sum("image/png" in output.get("data", {}) for cell in code for output in cell.outputs) == 3
