"""Figures for papers, as PNG and as PDF with embedded fonts, the size of a column or of a page.

python scripts/figures.py --kind=dataset --runs=dreams24 --scan=scan --output=docs/figures/dataset

writes OUTPUT.png and OUTPUT.pdf, and prints their names and what they show in a sentence. Kinds:

  seeds        run folders of one feature: all frontiers, what they reach together, and each seed's maximum (figure 2)
  evolution    the frontier of one run at --iterations
  dataset      dreams against dataset examples, which scripts/scan_corpus.py finds (figure 3); of several features a
               panel for each, on pages OUTPUT-1.png and so on, and OUTPUT-summary
  summary      the latter alone, out of --table, a .csv file of scripts/compare_dataset.py
  attribution  which tokens of one run's prompts matter (figure 1)
  layers       z-scores against layers out of --table, a file of rows layer,vector,kind,z (figure 6)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import flags
from rich.console import Console

import epo_jax
from epo_jax import command_line
from epo_jax.corpus import load_scan
from epo_jax.corpus.against import read_comparisons
from epo_jax.dream.folders import runs_below
from epo_jax.dream.lines import WAYS, bests_of, evolution_lines, frontier_line, hold_against
from epo_jax.dream.pictures import Pictures, attribution_picture, dataset_pictures, save_pictures
from epo_jax.dream.progress import FLUENT_BELOW
from epo_jax.errors import EpoError
from epo_jax.report import evolution_figure, layers_figure, seeds_figure
from epo_jax.report.data import format_feature
from epo_jax.report.layers_table import read_layers
from epo_jax.report.seeds_figure import seeds_sentence
from epo_jax.report.sheet import COLUMN, PAGE
from epo_jax.report.summary_figure import summary_figure

KINDS = ("seeds", "evolution", "dataset", "summary", "attribution", "layers")
ITERATIONS_SHOWN = (20, 40, 100, 300)
WIDTHS = {"column": COLUMN, "page": PAGE}

KIND = flags.DEFINE_enum("kind", None, KINDS, "what is drawn", required=True)
RUNS = flags.DEFINE_string("runs", None, "run folder, or a folder with run folders at any depth")
SCAN = flags.DEFINE_string("scan", None, "folder of scripts/scan_corpus.py, for --kind=dataset")
TABLE = flags.DEFINE_string(
    "table",
    None,
    "for --kind=layers a .csv or .json file of rows layer,vector,kind,z; for --kind=summary a .csv file of "
    "scripts/compare_dataset.py",
)
ITERATIONS = flags.DEFINE_string(
    "iterations",
    None,
    "for --kind=evolution, with commas between; by default those of 20, 40, 100 and 300 that the run came to, and its "
    "last",
)
PROMPTS = flags.DEFINE_integer("prompts", 4, "prompts at most, for --kind=attribution", lower_bound=1)
TITLE = flags.DEFINE_string("title", "", "of the figure; by default what is dreamed and the model")
WIDTH = flags.DEFINE_enum(
    "width", "column", list(WIDTHS), "of the figure; panels of many features and attributions are as wide as a page"
)
OUTPUT = flags.DEFINE_string("output", None, "path without ending; .png and .pdf are written", required=True)


def main() -> None:
    """Draw, write, and print the names of the files and what they show."""
    draw = {
        "seeds": _seeds,
        "evolution": _evolution,
        "dataset": _dataset,
        "summary": _summary,
        "attribution": _attribution,
    }
    pictures, sentences = draw.get(KIND.value, _layers)()
    files = save_pictures(pictures, OUTPUT.value)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for sentence in sentences:
        console.print(sentence)
    console.print(f"written: {', '.join(map(str, files))}")


def _seeds() -> tuple[Pictures, list[str]]:
    results = [epo_jax.load_result(folder) for folder in runs_below(_given(), "runs")]
    try:
        whole = epo_jax.merge_frontiers(results)
    except EpoError as error:
        raise EpoError(f"--runs={RUNS.value}: {error}") from error
    run = results[0].run
    lines = [frontier_line(result.frontier, f"seed {result.run.seed}") for result in results]
    figure = seeds_figure(lines, TITLE.value or f"{run.feature} in {run.model}", width=WIDTHS[WIDTH.value])
    sentences = [seeds_sentence(lines, run.feature), seeds_sentence(lines, run.feature, FLUENT_BELOW)]
    return {"": [figure]}, [*sentences, f"Together they have a frontier of {len(whole)} prompts."]


def _evolution() -> tuple[Pictures, list[str]]:
    result = _one_run()
    last = int(result.history.iteration.max(initial=0))
    shown = _iterations() or [*(one for one in ITERATIONS_SHOWN if one < last), last]
    lines = evolution_lines(result.history, shown)
    title = TITLE.value or f"{result.run.feature} in {result.run.model}"
    figure = evolution_figure(lines, title, width=WIDTHS[WIDTH.value])
    reached = format_feature(np.array([line.largest() for line in lines]))
    told = ", ".join(f"{value} at {line.name}" for value, line in zip(reached, lines, strict=True))
    return {"": [figure]}, [f"{result.run.feature}: maximum {told}."]


def _dataset() -> tuple[Pictures, list[str]]:
    folders = runs_below(_given(), "runs")
    if SCAN.value is None:
        raise EpoError("--scan: none given; --kind=dataset asks for a folder of scripts/scan_corpus.py")
    scan = load_scan(SCAN.value)
    found, missing = hold_against(scan, folders, "runs")
    pictures = dataset_pictures(found, scan, TITLE.value, WIDTHS[WIDTH.value])
    sentences = [f"{feature}: not in the scan" for feature in missing]
    return pictures, [*sentences, *(one.comparison.sentence(scan.positions) for one in found)]


def _summary() -> tuple[Pictures, list[str]]:
    if TABLE.value is None:
        raise EpoError("--table: none given; --kind=summary asks for a .csv file of scripts/compare_dataset.py")
    rows = [bests_of(one) for one in read_comparisons(TABLE.value)]
    title = TITLE.value or f"{len(rows)} features: dreams against dataset examples"
    sentences = [
        f"{way}: the dream is higher in {sum(row.dream[place] > row.dataset[place] for row in rows)} of {len(rows)}."
        for place, way in enumerate(WAYS)
    ]
    return {"": [summary_figure(rows, WAYS, title)]}, sentences


def _attribution() -> tuple[Pictures, list[str]]:
    result = _one_run()
    try:
        figure, shown = attribution_picture(result, PROMPTS.value)
    except EpoError as error:
        raise EpoError(f"--runs={RUNS.value}: {error}") from error
    return {"": [figure]}, [f"{result.run.feature}: {shown} of the {len(result.frontier)} prompts of its frontier."]


def _layers() -> tuple[Pictures, list[str]]:
    if TABLE.value is None:
        raise EpoError("--table: none given; --kind=layers asks for a file of rows layer,vector,kind,z")
    layers, kinds = read_layers(TABLE.value)
    figure = layers_figure(layers, kinds, TITLE.value, width=WIDTHS[WIDTH.value])
    return {"": [figure]}, [_mean(kind, layers, values) for kind, values in kinds.items()]


def _mean(kind: str, layers: Sequence[int], values: np.ndarray) -> str:
    known = [row[np.isfinite(row)] for row in values]
    at = [(float(row.mean()), layer) for row, layer in zip(known, layers, strict=True) if len(row)]
    if not at:
        return f"{kind}: no z-score."
    (low, least), (high, most) = min(at), max(at)
    return f"{kind}: the mean z-score is from {low:.2f} at layer {least} to {high:.2f} at layer {most}."


def _given() -> str:
    if RUNS.value is None:
        raise EpoError(f"--runs: none given; --kind={KIND.value} asks for run folders")
    return str(RUNS.value)


def _one_run() -> epo_jax.Result:
    folders = runs_below(_given(), "runs")
    if len(folders) > 1:
        raise EpoError(f"--runs={RUNS.value}: holds {len(folders)} runs, and --kind={KIND.value} draws one")
    return epo_jax.load_result(folders[0])


def _iterations() -> list[int]:
    if ITERATIONS.value is None:
        return []
    try:
        found = sorted({int(one) for one in ITERATIONS.value.split(",")})
    except ValueError as error:
        raise EpoError(
            f"--iterations={ITERATIONS.value}: must be whole numbers with commas between, such as 20,40,100,300"
        ) from error
    return found


if __name__ == "__main__":
    command_line.start(main, "figures")
