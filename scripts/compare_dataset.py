"""Dreams against max-activating dataset examples, feature by feature.

python scripts/compare_dataset.py --dreams=dreams24 --scan=scan --output=docs/dataset_comparison

takes a folder of runs (or one run, or a sweep's folder) and a scan of the same model and length, and writes
OUTPUT.md and OUTPUT.csv: for each feature the best dream, the best below 6 nats/token and the best at the cross-entropy
of the dataset's best example, against the dataset's own, as isolated prompts and in context; all runs of a feature
count together. It prints the table, in how many features the dream is higher, and by how much in the median. Features
that the scan lacks are named. Beside the tables it writes what scripts/figures.py --kind=dataset draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import flags
from rich.console import Console

from epo_jax import command_line
from epo_jax.corpus import load_scan
from epo_jax.corpus.against import FLUENT_BELOW, Comparison
from epo_jax.dream.folders import runs_below
from epo_jax.dream.lines import hold_against
from epo_jax.dream.pictures import dataset_pictures, save_pictures
from epo_jax.errors import EpoError

DREAMS = flags.DEFINE_string("dreams", None, "run folder, or a folder with run folders at any depth", required=True)
SCAN = flags.DEFINE_string("scan", None, "folder of scripts/scan_corpus.py", required=True)
OUTPUT = flags.DEFINE_string("output", None, "path without ending; .md, .csv, .png and .pdf are written")


def main() -> None:
    """Compare, print, write."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    scan = load_scan(SCAN.value)
    found, missing = hold_against(scan, runs_below(DREAMS.value, "dreams"), "dreams")
    for feature in missing:
        console.print(f"{feature}: not in the scan")
    rows = [one.comparison for one in found]
    for row in rows:
        console.print(row.sentence(scan.positions))
    text = _markdown(rows, scan.tokens, scan.positions)
    console.print(text)
    if OUTPUT.value:
        _write(Path(OUTPUT.value), text, rows)
        files = save_pictures(dataset_pictures(found, scan), OUTPUT.value)
        console.print(f"written: {OUTPUT.value}.md, {OUTPUT.value}.csv, {', '.join(map(str, files))}")


def _markdown(rows: Sequence[Comparison], tokens: int, positions: int) -> str:
    columns = ["dream", f"dream < {FLUENT_BELOW:g}", "dream at dataset's", "dataset", "its nats/token"]
    columns += [f"dataset < {FLUENT_BELOW:g}", "in context", "99.9th percentile"]
    lines = [f"| feature | {' | '.join(columns)} |", f"| --- | {' | '.join(['---:'] * len(columns))} |"]
    for row in rows:
        numbers = dataclasses.astuple(row)[1:]
        lines.append(f"| {row.feature} | {' | '.join('' if np.isnan(n) else f'{n:.2f}' for n in numbers)} |")
    kinds = {
        "overall": [(row.dream, row.dataset) for row in rows],
        "against the dataset's maximum in context": [(row.dream, row.in_context) for row in rows],
        f"both below {FLUENT_BELOW:g} nats/token": [(row.dream_fluent, row.dataset_fluent) for row in rows],
        "at the cross-entropy of the dataset's best": [(row.dream_at_dataset, row.dataset) for row in rows],
    }
    lines.append("")
    lines.extend(f"- {name}: {_summary(pairs)}" for name, pairs in kinds.items())
    lines.append(f"- the scan: {tokens:,} tokens, {positions:,} positions")
    return "\n".join(lines) + "\n"


def _summary(pairs: Sequence[tuple[float, float]]) -> str:
    # Where there is no dream at so low a cross-entropy, the dataset wins.
    higher = sum(dream > dataset for dream, dataset in pairs)
    known = [dream - dataset for dream, dataset in pairs if not np.isnan(dream - dataset)]
    median = f"{np.median(known):+.2f} in the median of {len(known)}" if known else "no pair"
    return f"the dream is higher in {higher} of {len(pairs)}, {median}"


def _write(path: Path, text: str, rows: Sequence[Comparison]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name + ".md").write_text(text, encoding="utf-8")
        pd.DataFrame([dataclasses.asdict(row) for row in rows]).to_csv(path.with_name(path.name + ".csv"), index=False)
    except OSError as error:
        raise EpoError(f"--output={path}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    command_line.start(main, "compare_dataset")
