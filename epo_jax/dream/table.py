"""Several dreams as a table in the terminal, a line each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from epo_jax.dream.progress import FLUENT_BELOW
from epo_jax.dream.result import Result


def dreams_table(results: Sequence[Result], folders: Sequence[str]) -> Table:
    """Feature, seed, greatest value, greatest value below 6 nats/token, and folder of each dream."""
    table = Table(title=Text(f"{len(results)} dreams in {results[0].run.model}"), title_justify="left")
    table.add_column("feature", overflow="fold")
    for name in ("seed", "best", f"below {FLUENT_BELOW:g} nats"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("folder", overflow="fold")
    for result, folder in zip(results, folders, strict=True):
        history = result.history
        finite = history.feature[np.isfinite(history.feature) & np.isfinite(history.cross_entropy)]
        fluent = history.feature[np.isfinite(history.feature) & (history.cross_entropy < FLUENT_BELOW)]
        values = (_greatest(finite), _greatest(fluent))
        # A Text is never parsed as markup, so "[bold]" stays a token.
        table.add_row(Text(result.run.feature), str(result.run.seed), *values, Text(folder))
    return table


def _greatest(values: np.ndarray) -> str:
    return f"{values.max():.3f}" if values.size else "none"
