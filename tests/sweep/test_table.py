from __future__ import annotations

import pandas as pd
import pytest

from epo_jax import EpoError
from epo_jax.sweep.batches import Item, Unusable
from epo_jax.sweep.pages import SweepPage
from epo_jax.sweep.progress import seconds_left
from epo_jax.sweep.table import SCHEMA, failed_row, part_names, read_part, write_part


def rows(*numbers: int) -> list[dict]:
    return [failed_row(Unusable(Item(number, f"L0.N{number}", 3), "no such neuron"), 0) for number in numbers]


def test_files_of_the_table_are_read_as_one_by_pandas_and_a_batch_is_there_once(tmp_path):
    folder = tmp_path / "results.parquet"
    assert part_names(folder) == set()
    write_part(folder, "000000", rows(0, 1))
    write_part(folder, "000001", rows(2))
    write_part(folder, "000000", rows(0, 1))
    table = pd.read_parquet(folder)
    assert table.columns.tolist() == SCHEMA.names
    assert sorted(table["number"]) == [0, 1, 2]
    assert table["best_value"].isna().all()
    assert part_names(folder) == {"000000", "000001"}
    assert [row["feature"] for row in read_part(folder, "000001")] == ["L0.N2"]


def test_what_a_killed_process_left_half_written_is_no_part_of_the_table(tmp_path):
    folder = tmp_path / "results.parquet"
    write_part(folder, "000000", rows(0))
    (folder / ".000001-77").write_bytes(b"PAR1 half")
    assert part_names(folder) == {"000000"}
    assert len(pd.read_parquet(folder)) == 1


def test_a_table_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "results.parquet").write_text("a file")
    with pytest.raises(EpoError, match=r"--output=.*cannot be written"):
        write_part(tmp_path / "results.parquet", "000000", rows(0))


def test_a_damaged_file_is_named(tmp_path):
    folder = tmp_path / "results.parquet"
    write_part(folder, "000000", rows(0))
    (folder / "part-000000.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(EpoError, match=r"part-000000\.parquet: cannot be read"):
        read_part(folder, "000000")


def test_the_page_reads_each_file_once_and_is_replaced_whole(tmp_path):
    page = SweepPage(tmp_path, "tiny", 5)
    page.read()
    assert (page.done, page.failed) == (0, 0)
    write_part(tmp_path / "results.parquet", "000000", rows(0, 1))
    page.read()
    write_part(tmp_path / "results.parquet", "000001", rows(2))
    (tmp_path / "results.parquet/part-000000.parquet").write_bytes(b"not read again")
    page.read()
    assert (page.done, page.failed) == (3, 3)
    page.write()
    assert "3 of 5 dreams" in (tmp_path / "index.html").read_text()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_time_left_is_known_once_something_was_done_since_the_start():
    assert seconds_left(100, 30, 20, 5.0) == 35.0
    assert seconds_left(100, 20, 20, 5.0) != seconds_left(100, 20, 20, 5.0), "NaN"
