"""The index page over a folder of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from epo_jax.dream.folders import INDEX, REPORT
from epo_jax.dream.progress import FLUENT_BELOW
from epo_jax.dream.result import Result
from epo_jax.errors import EpoError
from epo_jax.report.index_html import IndexRow, render_index


def index_row(number: int, result: Result, folder: Path, above: Path) -> IndexRow:
    """What the index says of a run, its best prompts out of all that it scored.

    Args:
        number: its place in the list.
        result: of the run.
        folder: of the run, somewhere below the index's.
        above: the index's folder.
    """
    history = result.history
    finite = np.isfinite(history.feature) & np.isfinite(history.cross_entropy)
    best, best_nats, best_text = _greatest(result, finite)
    fluent, fluent_nats, fluent_text = _greatest(result, finite & (history.cross_entropy < FLUENT_BELOW))
    return IndexRow(
        number=number,
        feature=result.run.feature,
        seed=result.run.seed,
        best=best,
        best_cross_entropy=best_nats,
        best_text=best_text,
        fluent=fluent,
        fluent_cross_entropy=fluent_nats,
        fluent_text=fluent_text,
        frontier=len(result.frontier),
        error=result.run.stopped,
        link=quote(f"{folder.relative_to(above).as_posix()}/{REPORT}"),
    )


def write_index(folder: Path, rows: Sequence[IndexRow], models: Sequence[str]) -> Path:
    """Write the index page of a folder.

    Args:
        folder: above all runs.
        rows: one for each.
        models: that were dreamed.

    Raises:
        EpoError: it cannot be written.
    """
    path = folder / INDEX
    page = render_index(", ".join(models), rows, len(rows), kind="Runs")
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise EpoError(f"--runs={folder}: {INDEX} cannot be written ({error})") from error
    return path


def _greatest(result: Result, allowed: np.ndarray) -> tuple[float | None, float | None, str]:
    """Value, cross-entropy and text of the best of some scored prompts."""
    if not allowed.any():
        return None, None, ""
    history = result.history
    row = int(np.where(allowed, history.feature, -np.inf).argmax())
    text = "".join(result.token_texts.get(token, "") for token in history.ids[row].tolist())
    return float(history.feature[row]), float(history.cross_entropy[row]), text
