"""Notebooks are run by command, with parameters, and what fails is told in a line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import commands
import nbformat
import pytest
from executing.notebook import execute, read

from epo_jax.errors import EpoError

SCRIPT = Path(__file__).parents[2] / "scripts" / "execute_notebook.py"
TEXT = """# %% [markdown]
# A title

# %% tags=["parameters"]
COUNT = 1

# %%
print("a" * COUNT)
"""


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(TEXT)
    return path


def test_parameters_replace_what_the_notebook_says_and_the_output_is_kept_beside_it(text):
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), f"--notebook={text}", "--set=COUNT=5"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "3 cells in" in ran.stdout
    found = nbformat.read(text.with_suffix(".ipynb"), 4)
    assert found.cells[-1].outputs[0].text == "aaaaa\n"
    assert [cell.id for cell in found.cells] == ["cell-0", "cell-1", "cell-parameters", "cell-2"]
    assert all("execution" not in cell.metadata for cell in found.cells)
    assert found.metadata.language_info == {"name": "python"}


def test_what_a_notebook_writes_lies_in_the_folder_that_is_given(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(
        "# %%\nimport tempfile, pathlib\n\npathlib.Path('here').touch()\nkept = tempfile.mkdtemp(prefix='there')\n"
    )
    execute(read(path), tmp_path)
    assert len([*tmp_path.glob("here"), *tmp_path.glob("there*")]) == 2


def test_a_cell_that_fails_is_named_by_its_error(text, tmp_path):
    text.write_text(TEXT + "\n# %%\n1 / 0\n")
    with pytest.raises(EpoError, match=r'--notebook: the cell "1 / 0" fails: ZeroDivisionError: division by zero'):
        execute(read(text), tmp_path)


def test_parameters_need_a_cell_for_them(text, tmp_path):
    text.write_text("# %%\nCOUNT = 1\n")
    with pytest.raises(EpoError, match=r'--set: the notebook has no cell with the tag "parameters"'):
        execute(read(text), tmp_path, {"COUNT": 2})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--set=COUNT=a b", "--set=COUNT=a b: must be NAME=VALUE"),
        ("--notebook=nowhere.py", "--notebook=nowhere.py: cannot be read"),
    ],
)
def test_bad_flags_end_in_a_line_and_2(given, told):
    ran = commands.run([SCRIPT, given])
    assert ran.returncode == 2
    assert told in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
