"""The sweep's index page, written anew now and then from the table, of which each file is read once."""

from __future__ import annotations

import contextlib
import time
import uuid
from pathlib import Path

from epo_jax.errors import EpoError
from epo_jax.report.index_html import IndexRow, render_index
from epo_jax.sweep.folder import INDEX, SWEEP, kept_sweep
from epo_jax.sweep.table import TABLE, Row, part_names, read_part

SECONDS_PER_PAGE = 60.0
_REPORT = "report.html"


class SweepPage:
    """What the table holds, as far as the page needs it.

    Attributes:
        done: rows of the table.
        failed: those of them that tell of an error.
    """

    def __init__(self, path: Path, title: str, dreams: int):
        """Of a sweep's folder, with the page's title and the number of dreams of the whole sweep."""
        self._path, self._title, self._dreams = path, title, dreams
        self._rows: dict[str, list[IndexRow]] = {}
        self._written = time.monotonic()
        # Counted as they come, since they are asked for after each visit to the host.
        self.done, self.failed = 0, 0

    def read(self) -> None:
        """Read the files that are new."""
        for name in sorted(part_names(self._path / TABLE) - set(self._rows)):
            rows = [self._row(row) for row in read_part(self._path / TABLE, name)]
            self._rows[name] = rows
            self.done += len(rows)
            self.failed += sum(bool(row.error) for row in rows)

    def write_if_due(self) -> None:
        """Write the page, if that was not done lately."""
        if time.monotonic() - self._written >= SECONDS_PER_PAGE:
            self.write()

    def write(self) -> None:
        """Write the page.

        Raises:
            EpoError: it cannot be written.
        """
        rows = sorted((row for rows in self._rows.values() for row in rows), key=lambda row: row.number)
        whole = self._path / f".{INDEX}-{uuid.uuid4().hex}"
        try:
            whole.write_text(render_index(self._title, rows, self._dreams), encoding="utf-8", newline="\n")
            whole.replace(self._path / INDEX)
        except OSError as error:
            with contextlib.suppress(OSError):
                whole.unlink(missing_ok=True)
            raise EpoError(f"--output={self._path}: {INDEX} cannot be written ({error})") from error
        self._written = time.monotonic()

    def _row(self, row: Row) -> IndexRow:
        link = f"{row['run_folder']}/{_REPORT}" if row["run_folder"] else ""
        return IndexRow(
            number=row["number"],
            feature=row["feature"],
            seed=row["seed"],
            best=row["best_value"],
            best_cross_entropy=row["best_cross_entropy"],
            best_text=row["best_text"] or "",
            fluent=row["fluent_value"],
            fluent_cross_entropy=row["fluent_cross_entropy"],
            fluent_text=row["fluent_text"] or "",
            frontier=row["frontier_size"],
            error=row["error"] or "",
            link=link if link and (self._path / link).exists() else "",
        )


def sweeps_below(folder: Path) -> list[Path]:
    """The folders of sweeps at any depth of a folder, itself among them."""
    return sorted(path.parent for path in folder.rglob(SWEEP))


def rewrite_page(path: Path) -> Path:
    """Write the index page of a sweep's folder anew, and return it.

    Raises:
        EpoError: the sweep's files are damaged, or the page cannot be written.
    """
    layout, model = kept_sweep(path)
    page = SweepPage(path, model, layout.dreams)
    page.read()
    page.write()
    return path / INDEX
