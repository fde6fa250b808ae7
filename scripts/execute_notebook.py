"""Run a notebook's text from top to bottom in a kernel of its own, and keep it with its outputs beside the text.

python scripts/execute_notebook.py --notebook=notebooks/dreaming.py

writes notebooks/dreaming.ipynb and prints how many cells ran and how long that took. The kernel works in a folder of
its own, which is removed.
"""

from __future__ import annotations

import ast
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from absl import flags
from executing.notebook import execute, read

from epo_jax import command_line
from epo_jax.errors import EpoError

NOTEBOOK = flags.DEFINE_string("notebook", "notebooks/dreaming.py", "the notebook's text, in jupytext's percent format")
OUTPUT = flags.DEFINE_string("output", None, "what to write; by default beside the text, with the ending .ipynb")
SET = flags.DEFINE_multi_string("set", [], "NAME=VALUE for the cell that is tagged parameters; may be repeated")


def main() -> None:
    """Run, write, print."""
    path = Path(NOTEBOOK.value)
    output = path.with_suffix(".ipynb") if OUTPUT.value is None else Path(OUTPUT.value)
    parameters = dict(_parameter(text) for text in SET.value)
    notebook = read(path)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, Path(folder), parameters)
    try:
        nbformat.write(notebook, output)
    except OSError as error:
        raise EpoError(f"--output={output}: cannot be written ({error.strerror})") from error
    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    print(f"{code} cells in {time.monotonic() - began:.0f} s; {output}, {output.stat().st_size / 1e3:.0f} kB")


def _parameter(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    try:
        if not sign or not name.isidentifier():
            raise ValueError("no NAME=VALUE")
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise EpoError(f"--set={text}: must be NAME=VALUE with a Python value, such as ITERATIONS=10") from error


if __name__ == "__main__":
    command_line.start(main, "execute_notebook")
