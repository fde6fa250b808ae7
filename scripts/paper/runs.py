"""What a sweep found, run by run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

import epo_jax
from epo_jax.errors import EpoError
from epo_jax.sweep.table import TABLE


def results_of(folder: Path) -> Iterator[epo_jax.Result]:
    """The results of a sweep that came to its end, feature by feature and seed by seed, one in memory at a time.

    Raises:
        EpoError: a dream that failed.
    """
    rows = pq.read_table(folder / TABLE, columns=["number", "feature", "seed", "error", "run_folder"]).to_pylist()
    for row in sorted(rows, key=lambda row: row["number"]):
        if row["error"] is not None:
            raise EpoError(f"{row['feature']} with seed {row['seed']} was not dreamed: {row['error']}")
        yield epo_jax.load_result(folder / row["run_folder"])
