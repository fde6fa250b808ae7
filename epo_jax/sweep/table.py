"""The results of a sweep: a folder of Parquet files that is read as one table, a row for each feature and seed.

    pandas.read_parquet("FOLDER/results.parquet")

A file holds a batch's rows and appears whole. Its name is the batch's, so no batch is in the table twice.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from epo_jax.dream.frontier import decode
from epo_jax.dream.progress import FLUENT_BELOW
from epo_jax.dream.result import Result
from epo_jax.epo.lengths import bare
from epo_jax.errors import EpoError
from epo_jax.sweep.batches import Item, Unusable

TABLE = "results.parquet"
UNUSABLE = "unusable"
_PART = re.compile(r"part-(\w+)\.parquet")
_NUMBER, _TEXT, _IDS = pa.float32(), pa.string(), pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        ("number", pa.int64()),  # the dream's place in the list, from 0
        ("feature", _TEXT),
        ("seed", pa.int64()),
        ("best_value", _NUMBER),  # the greatest value of all prompts that were scored
        ("best_cross_entropy", _NUMBER),  # nats/token, of the same prompt
        ("best_text", _TEXT),
        ("best_ids", _IDS),
        ("fluent_value", _NUMBER),  # the greatest value below 6 nats/token; null where there is none
        ("fluent_cross_entropy", _NUMBER),
        ("fluent_text", _TEXT),
        ("fluent_ids", _IDS),
        ("frontier_size", pa.int32()),  # prompts that are best for some fluency penalty
        ("scored", pa.int64()),  # prompts
        ("iterations", pa.int32()),
        ("seconds", _NUMBER),  # this dream's share of its batch's
        ("error", _TEXT),  # what went wrong; null where nothing did
        ("run_folder", _TEXT),  # seen from the sweep's folder; null where there is none
        ("batch", pa.int32()),  # null for a feature that no batch holds
    ]
)
Row = dict[str, Any]


def row_of(
    item: Item, result: Result, tokenizer: PreTrainedTokenizerFast, *, batch: int, together: int, folder: str
) -> Row:
    """The row of a dream that came to its end.

    Args:
        item: what was asked for.
        result: what was found; one that met a score that is not finite says so in `error`.
        tokenizer: the model's.
        batch: the batch's number.
        together: dreams that were advanced in one program.
        folder: the run folder, seen from the sweep's.
    """
    history = result.history
    finite = np.isfinite(history.feature) & np.isfinite(history.cross_entropy)
    return {
        **_blank(item),
        **_prompt("best", result, finite, tokenizer),
        **_prompt("fluent", result, finite & (history.cross_entropy < FLUENT_BELOW), tokenizer),
        "frontier_size": len(result.frontier),
        "scored": len(history),
        "iterations": int(history.iteration[-1]),
        "seconds": result.run.seconds / together,
        "error": result.run.stopped or None,
        "run_folder": folder,
        "batch": batch,
    }


def failed_row(failed: Unusable, batch: int | None = None) -> Row:
    """The row of a feature that could not be dreamed."""
    return {**_blank(failed.item), "error": failed.error, "batch": batch}


def write_part(folder: Path, name: str, rows: Sequence[Row]) -> None:
    """Write some rows as one file, in the place of one of the same name.

    Args:
        folder: the table.
        name: of the file, such as a batch's number.
        rows: with the columns of SCHEMA.

    Raises:
        EpoError: it cannot be written.
    """
    # Names that start with a dot are no part of the table.
    whole = folder / f".{name}-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), whole)
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        whole.replace(folder / f"part-{name}.parquet")
    except OSError as error:
        # What cannot be written may not be removable either, and matters to nobody.
        with contextlib.suppress(OSError):
            whole.unlink(missing_ok=True)
        raise EpoError(f"--output={folder.parent}: {TABLE} cannot be written ({error})") from error


def part_names(folder: Path) -> set[str]:
    """Names of the files that the table has."""
    try:
        return {match[1] for entry in os.scandir(folder) if (match := _PART.fullmatch(entry.name))}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise EpoError(f"--output={folder.parent}: {TABLE} cannot be read ({error})") from error


def read_part(folder: Path, name: str) -> list[Row]:
    """The rows of one file.

    Raises:
        EpoError: it cannot be read.
    """
    path = folder / f"part-{name}.parquet"
    try:
        rows: list[Row] = pq.ParquetFile(path).read().to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise EpoError(f"{path}: cannot be read ({error}); without it, its batch is done again") from error
    return rows


def _blank(item: Item) -> Row:
    return {**dict.fromkeys(SCHEMA.names), "number": item.number, "feature": item.feature, "seed": item.seed}


def _prompt(
    name: str, result: Result, allowed: Bool[np.ndarray, " N"], tokenizer: PreTrainedTokenizerFast
) -> Mapping[str, Any]:
    """The columns of the prompt with the greatest value among those that are allowed; none where none is."""
    history = result.history
    if not allowed.any():
        return {}
    at = int(np.argmax(np.where(allowed, history.feature, -math.inf)))
    return {
        f"{name}_value": float(history.feature[at]),
        f"{name}_cross_entropy": float(history.cross_entropy[at]),
        f"{name}_text": decode(tokenizer, history.ids[at]).encode("utf-8", "backslashreplace").decode(),
        f"{name}_ids": bare(history.ids[at]).tolist(),
    }
