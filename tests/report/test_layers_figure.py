from __future__ import annotations

import json
import os

import numpy as np
import pytest
from figure_lines import is_drawn, texts

from epo_jax.errors import EpoError
from epo_jax.report import layers_figure
from epo_jax.report.layers_table import read_layers

ROWS = [
    {"layer": 8, "vector": "b", "kind": "dreams", "z": 7.5},
    {"layer": 4, "vector": "a", "kind": "dreams", "z": 6.5},
    {"layer": 4, "vector": "b", "kind": "dreams", "z": 7.0},
    {"layer": 4, "vector": "a", "kind": "random prompts", "z": 3.25},
]


def csv(rows) -> str:
    return "layer,vector,kind,z\n" + "".join(f"{r['layer']},{r['vector']},{r['kind']},{r['z']}\n" for r in rows)


def test_means_and_deviations_over_vectors_are_drawn() -> None:
    kinds = {"dreams": np.array([[6.0, 8.0, np.nan], [7.0, 7.0, 7.0]]), "random prompts": np.array([[3.0], [4.0]])}
    figure = layers_figure([4, 8], kinds, "50 directions", published=([4, 8], [7.6, 7.4]))
    axes = figure.axes[0]
    dreams, random = (container for container in axes.containers)
    np.testing.assert_allclose(dreams.lines[0].get_ydata(), [7.0, 7.0])
    np.testing.assert_allclose(random.lines[0].get_ydata(), [3.0, 4.0])
    bars = [segment[:, 1] for segment in dreams.lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [[6.0, 8.0], [7.0, 7.0]])
    assert is_drawn(axes, np.array([[4, 7.6], [8, 7.4]]))
    assert {"dreams", "random prompts", "published", "50 directions"} <= set(texts(figure))
    assert {"mean and standard deviation over 3 vectors"} <= set(texts(figure))


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_table_is_read_as_layers_and_kinds(tmp_path, ending: str) -> None:
    path = tmp_path / f"table.{ending}"
    path.write_text(csv(ROWS) if ending == "csv" else json.dumps(ROWS), encoding="utf-8")
    layers, kinds = read_layers(path)
    assert layers == [4, 8]
    assert list(kinds) == ["dreams", "random prompts"]
    np.testing.assert_array_equal(kinds["dreams"], [[7.0, 6.5], [7.5, np.nan]])
    np.testing.assert_array_equal(kinds["random prompts"], [[np.nan, 3.25], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "layer,vector,z\n1,a,2\n", "lacks kind"),
        ("a.csv", "", "lacks layer, vector, kind, z"),
        ("a.csv", csv([]), "has no rows"),
        ("a.csv", csv([{**ROWS[0], "layer": "x"}]), "row 1: layer is 'x', not a whole number"),
        ("a.csv", csv([ROWS[0], {**ROWS[1], "z": "high"}]), "row 2: z is 'high', not a number"),
        ("a.csv", csv([ROWS[0], ROWS[0]]), "row 2 has layer 8, vector b, dreams a second time"),
        ("a.csv", csv([{**ROWS[0], "kind": ""}]), "row 1: has no kind"),
        ("a.csv", "layer,vector,kind,z\n1,a\n", "row 1: has no kind"),
        ("a.csv", 'layer,vector,kind,z\n1,"a,', "is no CSV"),
        ("a.json", "{", "is no JSON"),
        ("a.json", "[1]", "is no list of objects"),
        ("a.json", '[{"layer": 1}]', "lacks vector, kind, z"),
        ("a.json", json.dumps([{**ROWS[0], "z": [1]}]), "row 1: z is [1], not a number"),
        ("a.json", json.dumps([{**ROWS[0], "layer": 1.5}]), "row 1: layer is 1.5, not a whole number"),
        ("a.parquet", "PAR1", "ends in neither .csv nor .json"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_other_tables_are_refused_in_one_line(tmp_path, name: str, text: str | bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EpoError, match=r"^--table=") as refused:
        read_layers(path)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_table_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(EpoError, match=f"^--table={tmp_path}{os.sep}none.csv: cannot be read"):
        read_layers(tmp_path / "none.csv")
