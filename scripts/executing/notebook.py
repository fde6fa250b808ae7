"""A notebook's text, run in a kernel of its own, and the same with its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from epo_jax.errors import EpoError, one_line

# The tag of the cell whose names a run may set, as papermill has it.
PARAMETERS = "parameters"
SECONDS_PER_CELL = 3600


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook, from its text or with its outputs.

    Raises:
        EpoError: no such file, or no notebook.
    """
    try:
        found = jupytext.read(path)
    except (OSError, ValueError) as error:
        raise EpoError(f"--notebook={path}: cannot be read ({one_line(error)})") from error
    # Numbers in the place of random ids, so that the same cells give the same file.
    for number, cell in enumerate(found.cells):
        cell["id"] = f"cell-{number}"
    return found


def execute(
    notebook: nbformat.NotebookNode, folder: Path, parameters: Mapping[str, Any] | None = None
) -> nbformat.NotebookNode:
    """The notebook with its outputs, and without times and versions, which would differ from run to run.

    Args:
        notebook: its cells; it is changed.
        folder: where the kernel works.
        parameters: names and values, set in a cell behind the one that is tagged "parameters".

    Raises:
        EpoError: a cell that fails, or parameters for a notebook that has no cell for them.
    """
    if parameters:
        text = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(_place(notebook), nbformat.v4.new_code_cell(text, id="cell-parameters"))
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise EpoError(f"--notebook: {_last(notebook)} fails: {error.ename}: {one_line(error.evalue)}") from error
    except CellTimeoutError as error:
        raise EpoError(f"--notebook: {_last(notebook)} takes more than {SECONDS_PER_CELL} s") from error
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _place(notebook: nbformat.NotebookNode) -> int:
    for number, cell in enumerate(notebook.cells):
        if PARAMETERS in cell.metadata.get("tags", []):
            return number + 1
    raise EpoError(f'--set: the notebook has no cell with the tag "{PARAMETERS}"')


def _last(notebook: nbformat.NotebookNode) -> str:
    """The cell that was run last, by its first line."""
    ran = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count is not None]
    return f'the cell "{ran[-1].source.splitlines()[0]}"' if ran else "the first cell"
