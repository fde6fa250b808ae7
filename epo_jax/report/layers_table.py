"""The table behind the picture of layers: how strongly each direction of each layer was reached."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from epo_jax.errors import EpoError, one_line

COLUMNS = ("layer", "vector", "kind", "z")
_FORM = f"a .csv file with the columns {','.join(COLUMNS)}, or a .json file with a list of such rows, is read"


def read_layers(path: str | Path) -> tuple[list[int], dict[str, Float[np.ndarray, "L V"]]]:
    """Reads a table of z-scores.

    A row is the largest z-score that prompts of one kind reached for one vector of one layer:

        layer   the block's number, whole
        vector  which vector of the layer; any text or number
        kind    what was tried, such as "dreams", "dataset examples" or "random prompts"; any text
        z       the z-score, a number; empty, NaN or null where there is none

    Other columns are passed over. A .csv file names the columns in its first line; a .json file is a list of objects.

    Args:
        path: The file.

    Returns:
        The layers, ascending, and for each kind, in the order of the file, float64[L, V]; NaN where the table has no
        row, V the vectors of all kinds.

    Raises:
        EpoError: A file that cannot be read or is no such table, or one that has a row twice.
    """
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise EpoError(f"--table={path}: cannot be read ({one_line(error)}); {_FORM}") from error
    if file.suffix not in (".csv", ".json"):
        raise EpoError(f"--table={path}: ends in neither .csv nor .json; {_FORM}")
    cells: dict[tuple[int, str, str], float] = {}
    for number, row in enumerate(_json_rows(path, text) if file.suffix == ".json" else _csv_rows(path, text), start=1):
        layer, vector, kind, z = _checked(f"--table={path}: row {number}", row)
        if (layer, vector, kind) in cells:
            raise EpoError(f"--table={path}: row {number} has layer {layer}, vector {vector}, {kind} a second time")
        cells[layer, vector, kind] = z
    if not cells:
        raise EpoError(f"--table={path}: has no rows; {_FORM}")
    layers = sorted({layer for layer, _, _ in cells})
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(kind for _, _, kind in cells))}
    vectors = {vector: number for number, vector in enumerate(dict.fromkeys(vector for _, vector, _ in cells))}
    values = np.full((len(kinds), len(layers), len(vectors)), np.nan)
    for (layer, vector, kind), z in cells.items():
        values[kinds[kind], layers.index(layer), vectors[vector]] = z
    return layers, dict(zip(kinds, values, strict=True))


def _csv_rows(path: str | Path, text: str) -> list[Mapping[str, Any]]:
    try:
        reader = csv.DictReader(text.splitlines(), strict=True)
        rows: list[Mapping[str, Any]] = list(reader)
    except csv.Error as error:
        raise EpoError(f"--table={path}: is no CSV ({one_line(error)}); {_FORM}") from error
    _check_columns(path, reader.fieldnames or ())
    return rows


def _json_rows(path: str | Path, text: str) -> list[Mapping[str, Any]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise EpoError(f"--table={path}: is no JSON ({one_line(error)}); {_FORM}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise EpoError(f"--table={path}: is no list of objects; {_FORM}")
    for row in rows:
        _check_columns(path, list(row))
    return rows


def _check_columns(path: str | Path, names: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise EpoError(f"--table={path}: lacks {', '.join(missing)}; {_FORM}")


def _checked(where: str, row: Mapping[str, Any]) -> tuple[int, str, str, float]:
    layer, vector, kind, z = (row[name] for name in COLUMNS)
    try:
        whole = int(str(layer))
    except ValueError as error:
        raise EpoError(f"{where}: layer is {one_line(repr(layer))}, not a whole number") from error
    if vector in (None, "") or kind in (None, ""):
        raise EpoError(f"{where}: has no {'vector' if vector in (None, '') else 'kind'}")
    try:
        value = math.nan if z in (None, "") else float(z)
    except (TypeError, ValueError) as error:
        raise EpoError(f"{where}: z is {one_line(repr(z))}, not a number") from error
    return whole, str(vector), str(kind), value
