"""What sweeps found, run by run, and what they took in all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import epo_jax
from epo_jax.dream.folders import CONFIG
from epo_jax.errors import EpoError
from epo_jax.sweep.table import TABLE

_COLUMNS = ["number", "feature", "seed", "scored", "seconds", "error", "run_folder"]


def results_of(folder: Path) -> Iterator[epo_jax.Result]:
    """The results of a sweep that came to its end, feature by feature and seed by seed, one in memory at a time.

    Raises:
        EpoError: a dream that failed.
    """
    for row in _rows(folder):
        yield epo_jax.load_result(folder / row["run_folder"])


def told(seeds: Sequence[int], folders: Sequence[Path]) -> str:
    """What was dreamed, with which seeds, and how long it took, in sentences.

    Args:
        seeds: of each feature.
        folders: of sweeps that came to their ends.

    Raises:
        EpoError: a dream that failed.
    """
    rows = [(folder, row) for folder in folders for row in _rows(folder)]
    versions = [
        json.loads((folder / row["run_folder"] / CONFIG).read_text(encoding="utf-8"))["versions"]
        for folder, row in rows
    ]
    ran_on = ", ".join(dict.fromkeys(f"{one['device']} with JAX {one['jax']}" for one in versions))
    scored, seconds = (sum(row[name] for _, row in rows) for name in ("scored", "seconds"))
    dreams = f"{len(rows)} dream{'s' if len(rows) > 1 else ''}"
    return f"{_seeds(seeds)} {dreams}, {scored:,} prompts scored in {seconds:,.0f} s on {ran_on}."


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = sorted(pq.read_table(folder / TABLE, columns=_COLUMNS).to_pylist(), key=lambda row: row["number"])
    for row in rows:
        if row["error"] is not None:
            raise EpoError(f"{row['feature']} with seed {row['seed']} was not dreamed: {row['error']}")
    return rows


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"Seeds {seeds[0]} to {seeds[-1]}."
    return f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."
