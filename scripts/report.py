"""Write the reports of runs anew, and an index page over them.

python scripts/report.py --runs=dreams

takes a run folder, or a folder with run folders at any depth, and writes the page and the pictures of each run again
as this version of the program makes them. A folder of runs gets index.html, a table to sort and to search with a link
to each page; that of a sweep is the sweep's own, written again. It prints a line for each run. No model is loaded;
texts that old run folders lack are read with the model's tokenizer alone.

python scripts/report.py --runs=dreams --scan=scan --continuation --parquet

also shows the dataset examples of a scan beside the dreams, loads the models and lets them go on after the prompts of
those runs that lack that, and writes history.parquet, every scored prompt with its text, into each run folder.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from absl import flags
from rich.console import Console

import epo_jax
from epo_jax import command_line
from epo_jax.corpus import Scan, load_scan
from epo_jax.dream.continuations import with_continuations
from epo_jax.dream.dataset import with_examples
from epo_jax.dream.folders import REPORT, runs_below
from epo_jax.dream.index import index_row, write_index
from epo_jax.epo.lengths import bare
from epo_jax.errors import EpoError
from epo_jax.models import load_tokenizer
from epo_jax.models.tokenizers import texts_by_id
from epo_jax.scoring.template import Template, frozen_tokens
from epo_jax.sweep.pages import rewrite_page, sweeps_below

RUNS = flags.DEFINE_string("runs", None, "run folder, or a folder with run folders at any depth", required=True)
SCAN = flags.DEFINE_string("scan", None, "folder of scripts/scan_corpus.py, of the runs' model and length")
CONTINUATION = flags.DEFINE_boolean(
    "continuation", False, "whether models are loaded to go on after the prompts of runs that lack that"
)
PARQUET = flags.DEFINE_boolean("parquet", False, "whether each run folder gets history.parquet")

PARQUET_FILE = "history.parquet"

# Runs of one model share what is loaded of it.
tokenizer_of = functools.lru_cache(maxsize=1)(load_tokenizer)
model_of = functools.lru_cache(maxsize=1)(epo_jax.load_model)


def main() -> None:
    """Write pages, print a line for each."""
    console = Console(highlight=False, soft_wrap=True)
    folders = runs_below(RUNS.value, "runs")
    scan = None if SCAN.value is None else load_scan(SCAN.value)
    rows, models = [], []
    above = Path(RUNS.value).expanduser()
    for number, folder in enumerate(folders):
        result = _completed(console, folder, epo_jax.load_result(folder), scan)
        result.save_report(folder)
        if PARQUET.value:
            result.to_parquet(folder / PARQUET_FILE)
        console.print(f"{folder / REPORT}: {result.run.feature} in {result.run.model}", markup=False)
        rows.append(index_row(number, result, folder, above))
        models.append(result.run.model)
    sweeps = sweeps_below(above)
    for sweep in sweeps:
        console.print(f"{rewrite_page(sweep)}: a sweep's", markup=False)
    if above not in (*sweeps, *folders):
        page = write_index(above, rows, list(dict.fromkeys(models)))
        console.print(f"{page}: {len(rows)} runs", markup=False)


def _completed(console: Console, folder: Path, result: epo_jax.Result, scan: Scan | None) -> epo_jax.Result:
    """The result with all that is asked for and was not there."""
    run = result.run
    if not result.token_texts:
        try:
            texts = texts_by_id(tokenizer_of(run.model, run.revision), bare(result.history.ids))
            result = dataclasses.replace(result, token_texts=texts)
        except EpoError as error:
            # The page needs them for the prompts that are not on the frontier alone.
            console.print(f"{folder}: the texts of its scored prompts are not shown ({error})", markup=False)
    if CONTINUATION.value and result.frontier.continuation is None:
        lm = model_of(run.model, run.dtype, run.revision)
        frozen = frozen_tokens(lm, Template(run.prefix, run.suffix, run.bos))
        (result,) = with_continuations(lm, [result], frozen)
    if scan is not None:
        scan.check(run.model, result.frontier.ids.shape[1], f"--runs={folder}")
        if run.feature not in scan.features:
            console.print(f"{folder}: no dataset examples, {scan.folder} has not {run.feature}", markup=False)
        (result,) = with_examples(scan, [result], tokenizer_of(run.model, run.revision))
    return result


if __name__ == "__main__":
    command_line.start(main, "report")
