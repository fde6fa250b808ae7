"""Dream many features of a language model, some at a time, and go on where it was broken off.

python scripts/sweep.py --model=smollm2-135m --features=L0:12.N0:100 --output=neurons

takes a list or a range of features (--features may be repeated; --features_file has one a line; sae:PATH/ID:* is all
latents of an autoencoder), and fills a folder: results.parquet with a row for each feature, which
pandas.read_parquet("neurons/results.parquet") reads, index.html with a table over the reports, and dreams/ with a run
folder for each. The same command goes on after any interruption, and in several processes with one folder it shares the
work. Features that fail are recorded, and the sweep goes on.
"""

from __future__ import annotations

import sys

from absl import flags
from rich.console import Console

from epo_jax import command_line
from epo_jax.compilation_cache import use_compilation_cache
from epo_jax.dream import process_flags, search_flags
from epo_jax.dream.preemption import EXIT_CODE, TerminatedError, terminable
from epo_jax.dream.ranges import expand_seeds
from epo_jax.parallel import make_mesh, processes
from epo_jax.parallel.mesh import AUTO
from epo_jax.sweep import Summary, SweepLive, listed_features, sweep
from epo_jax.sweep.folder import check_sweep_folder

PROGRAM = "sweep"
INTERRUPTED = 130

FEATURES = flags.DEFINE_multi_string(
    "features",
    [],
    'feature strings or half-open ranges, "L0:12.N0:100", "sae:PATH/ID:0:64", "sae:PATH/ID:*"; may be repeated, and '
    "need not be of one kind",
)
FEATURES_FILE = flags.DEFINE_multi_string(
    "features_file", [], "file with a feature or a range a line; lines that start with # are passed over"
)
OUTPUT = flags.DEFINE_string("output", None, "the sweep's folder; the same command goes on in it")
DREAMS_AT_ONCE = flags.DEFINE_integer(
    "dreams_at_once",
    None,
    "dreams that are advanced in one program; by default 8 on a CPU, and up to 64 on an accelerator, as memory allows",
)
REPORTS = flags.DEFINE_boolean("reports", True, "whether each dream gets its report.html and pictures")
flags.adopt_module_key_flags(search_flags)
flags.adopt_module_key_flags(process_flags)


def main() -> None:
    """Translate flags, sweep, and print; of several processes of one job the first one alone prints."""
    with process_flags.joined(PROGRAM):
        _main()


def _main() -> None:
    console = Console(highlight=False, quiet=not processes.is_writer())
    try:
        summary = _sweep(console)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)
    good = summary.done - summary.failed
    console.print(
        f"{summary.done} of {summary.dreams} dreams are done, {summary.failed} of them failed; table: "
        f"{summary.folder}/results.parquet; reports: {summary.folder}/index.html",
        soft_wrap=True,
    )
    if summary.stopped:
        if processes.is_writer():
            print(f"{PROGRAM}: {summary.stopped}; the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if not good:
        command_line.refuse(f"all {summary.dreams} dreams failed; {summary.folder}/index.html tells why", PROGRAM)


def _sweep(console: Console) -> Summary:
    output = OUTPUT.value
    if not output:
        command_line.refuse("--output: none given; a sweep needs a folder that it can go on in", PROGRAM)
    use_compilation_cache(search_flags.CACHE_DIR.value)
    config = search_flags.search_config(console)
    processes.on_writer(lambda: str(check_sweep_folder(output)), "folder")
    features = processes.on_writer(lambda: listed_features(FEATURES.value, FEATURES_FILE.value), "features")
    seeds = list(dict.fromkeys(seed for given in search_flags.SEED.value for seed in expand_seeds(given)))
    options = search_flags.dream_options()
    template = search_flags.frozen_text()
    # Several processes share the work of one search.
    text = search_flags.MESH.value or (AUTO if process_flags.DISTRIBUTED.value else None)
    mesh = text if text is None or text == AUTO else make_mesh(text)
    lm, fluency_model = search_flags.load_models(console, mesh)
    dreams = len(features) * len(seeds)
    console.print(f"{dreams} dream{'' if dreams == 1 else 's'} of {lm.source} in {output}", soft_wrap=True)
    with SweepLive(console) as live:
        return sweep(
            lm,
            features,
            config,
            seed=seeds,
            output=output,
            dreams_at_once=DREAMS_AT_ONCE.value,
            reports=REPORTS.value,
            callback=live.update,
            template=search_flags.in_chat(lm, template),
            fluency_model=fluency_model,
            mesh=lm.mesh,
            **options,
        )


def terminable_main() -> None:
    """`main`, which SIGTERM ends with an exit code of its own."""
    try:
        with terminable():
            main()
    except TerminatedError:
        print(f"{PROGRAM}: terminated; the same command goes on", file=sys.stderr)
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    command_line.start(terminable_main, PROGRAM)
