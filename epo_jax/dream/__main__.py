"""Dream features of a language model.

python -m epo_jax.dream --model=smollm2-135m --feature=L7.N690

prints the frontier of prompts between the feature and fluency, and the folder that holds the report. With several
features or seeds (--feature=L7.N0:64 --seed=0:3) all are dreamed together, and it prints a line for each.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import sys
from pathlib import Path

from absl import flags
from rich.console import Console

from epo_jax import command_line
from epo_jax.compilation_cache import use_compilation_cache
from epo_jax.config import EPOConfig
from epo_jax.dream import process_flags, search_flags
from epo_jax.dream.attributions import check_share
from epo_jax.dream.batch import folder_names, safe_name
from epo_jax.dream.folders import CHECKPOINTS, check_folder
from epo_jax.dream.live import Live
from epo_jax.dream.loop import dream
from epo_jax.dream.outcome import NonFiniteError
from epo_jax.dream.preemption import EXIT_CODE, TerminatedError, terminable
from epo_jax.dream.progress import Callback, together
from epo_jax.dream.ranges import expand, expand_seeds
from epo_jax.dream.result import Result
from epo_jax.dream.run_folder import check_keeping
from epo_jax.dream.scalars import TensorBoard, WeightsAndBiases
from epo_jax.dream.table import dreams_table
from epo_jax.features import parse_feature
from epo_jax.parallel import make_mesh, processes
from epo_jax.parallel.mesh import AUTO
from epo_jax.report import console_table
from epo_jax.scoring.scale import parse_scale

DEFAULT_FEATURE = "L7.N690"
INTERRUPTED = 130
# Features without dataset examples that are named.
SHOWN = 4
PROGRAM = "epo_jax"

FEATURE = flags.DEFINE_multi_string(
    "feature",
    [DEFAULT_FEATURE],
    'what to maximize: "L10.N5", "logit: dog", "residual:L12:FILE.npy", "attention:L5.H3:0", "sae:PATH/ID:123", '
    '"probe:SITE:FILE.npz", "continuation: text", "sum:0.5*(L1.N2)-1*(logit: dog)", "package.module:function", any of '
    'these minimized with a leading "-", or all of a half-open range, "L10.N0:64" or "L0:12.N0:100"; may be repeated, '
    "with features of one kind",
)
OUTPUT = flags.DEFINE_string(
    "output", None, "run folder, of several dreams a folder of run folders; by default a new one under dreams/"
)
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "whether the run folder may hold files already")
RESUME = flags.DEFINE_boolean(
    "resume",
    False,
    "whether to go on with the run in --output from its newest checkpoint; without one it starts anew, and a run that "
    "has ended is shown as it is",
)
SCAN = flags.DEFINE_string(
    "scan", None, "folder of scripts/scan_corpus.py, whose dataset examples the report shows beside the dream"
)
TENSORBOARD = flags.DEFINE_string("tensorboard", None, "folder for the run's numbers, iteration by iteration")
WANDB = flags.DEFINE_string("wandb", None, "project of Weights & Biases for the same")
PROFILE_DIR = flags.DEFINE_string("profile_dir", None, "folder for a trace of one iteration by jax.profiler")
flags.adopt_module_key_flags(search_flags)
flags.adopt_module_key_flags(process_flags)


def main() -> None:
    """Translate flags, dream, and print; of several processes the first one alone prints."""
    with process_flags.joined(PROGRAM):
        _main()


def _main() -> None:
    console = Console(highlight=False, quiet=not processes.is_writer())
    results: list[Result] = []
    output = ""
    try:
        use_compilation_cache(search_flags.CACHE_DIR.value)
        config = search_flags.search_config(console)
        # What ranges name twice is dreamed once.
        texts = list(dict.fromkeys(text for given in FEATURE.value for text in expand(given)))
        seeds = list(dict.fromkeys(seed for given in search_flags.SEED.value for seed in expand_seeds(given)))
        check_keeping(
            OUTPUT.value,
            OVERWRITE.value,
            RESUME.value,
            search_flags.CHECKPOINT_EVERY.value,
            search_flags.KEEP_CHECKPOINTS.value,
        )
        output = OUTPUT.value or processes.agreed(_default_output(FEATURE.value), "output")
        processes.on_writer(lambda: str(check_folder(output, OVERWRITE.value or RESUME.value)), "folder")
        # Several processes share the work of one search.
        asked = search_flags.MESH.value or (AUTO if process_flags.DISTRIBUTED.value else None)
        mesh = asked if asked is None or asked == AUTO else make_mesh(asked)
        parse_scale(search_flags.SCALE.value)
        check_share(search_flags.ATTRIBUTION_SHARE.value)
        constraints = search_flags.constraints()
        template = search_flags.frozen_text()
        names = folder_names(list(itertools.product(texts, seeds))) if len(texts) * len(seeds) > 1 else None
        with contextlib.ExitStack() as held:
            callbacks: list[Callback] = [held.enter_context(one) for one in _scalars(names, config)]
            lm, fluency_model = search_flags.load_models(console, mesh)
            template = search_flags.in_chat(lm, template)
            features = [parse_feature(text, lm) for text in texts]
            dreams = list(itertools.product(features, seeds))
            several = len(dreams) > 1
            if several:
                console.print(f"{len(dreams)} dreams in one program")
            callbacks.append(held.enter_context(Live(console)).update)
            found = dream(
                lm,
                [feature for feature, _ in dreams] if several else features[0],
                config,
                seed=[seed for _, seed in dreams] if several else seeds[0],
                template=template,
                init=search_flags.INIT.value,
                init_text=search_flags.INIT_TEXT.value,
                init_file=search_flags.INIT_FILE.value,
                read=search_flags.READ.value,
                scale=search_flags.SCALE.value,
                constraints=constraints,
                fluency_model=fluency_model,
                attribution=search_flags.ATTRIBUTION.value,
                attribution_share=search_flags.ATTRIBUTION_SHARE.value,
                continuation=search_flags.CONTINUATION.value,
                micro_batch=search_flags.MICRO_BATCH.value,
                mesh=lm.mesh,
                output=output,
                overwrite=OVERWRITE.value,
                resume=RESUME.value,
                checkpoint_every=search_flags.CHECKPOINT_EVERY.value,
                keep_checkpoints=search_flags.KEEP_CHECKPOINTS.value,
                callback=together(callbacks),
                scan=SCAN.value,
                profile_dir=PROFILE_DIR.value,
            )
        results = found if isinstance(found, list) else [found]
    except NonFiniteError as error:
        if len(error.results) > 1:
            _report(console, error.results, output)
        raise
    except KeyboardInterrupt:
        if output and (Path(output) / CHECKPOINTS).is_dir():
            told = f"interrupted; everything found so far is in {output}, and --resume goes on"
        else:
            told = "interrupted before anything was scored"
        if processes.is_writer():
            print(f"{PROGRAM}: {told}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except TerminatedError as error:
        raise TerminatedError(f"--output={output}" if output else "--output") from error
    _report(console, results, output)
    if results[0].run.stopped:
        if processes.is_writer():
            print(
                f"{PROGRAM}: {results[0].run.stopped}; everything found so far is in {output}, and --resume goes on",
                file=sys.stderr,
            )
        sys.exit(INTERRUPTED)


def _scalars(names: list[str] | None, config: EPOConfig) -> list[TensorBoard | WeightsAndBiases]:
    """Where the run's numbers go, beside the terminal."""
    found: list[TensorBoard | WeightsAndBiases] = []
    if TENSORBOARD.value is not None:
        found.append(TensorBoard(TENSORBOARD.value, names))
    if WANDB.value is not None:
        told = {"model": search_flags.MODEL.value, "feature": FEATURE.value, "seed": search_flags.SEED.value}
        found.append(WeightsAndBiases(WANDB.value, names, {**told, **config.to_json()}))
    return found


def _report(console: Console, results: list[Result], output: str) -> None:
    scored, seconds = sum(len(result.history) for result in results), results[0].run.seconds
    if len(results) == 1:
        console.print(console_table(results[0].report_data()))
        report = f"report: {output}/report.html"
    else:
        names = folder_names([(result.run.feature, result.run.seed) for result in results])
        console.print(dreams_table(results, names))
        report = f"reports: {output}/*/report.html"
    if SCAN.value is not None and (without := [one.run.feature for one in results if one.examples is None]):
        more = f" and {len(without) - SHOWN} more" if len(without) > SHOWN else ""
        console.print(
            f"no dataset examples: {SCAN.value} has not {', '.join(without[:SHOWN])}{more}",
            markup=False,
            soft_wrap=True,
        )
    console.print(f"{scored} prompts scored in {seconds:.0f} s; {report}")
    if PROFILE_DIR.value:
        console.print(f"profile of one iteration: {PROFILE_DIR.value}")


def _default_output(features: list[str]) -> str:
    return os.path.join("dreams", f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{safe_name(' '.join(features))}")


def terminable_main() -> None:
    """`main`, which SIGTERM ends with an exit code of its own."""
    try:
        with terminable():
            main()
    except TerminatedError as error:
        print(f"{PROGRAM}: terminated; the same command with {error} and --resume goes on", file=sys.stderr)
        sys.exit(EXIT_CODE)


if __name__ == "__main__":
    command_line.start(terminable_main, PROGRAM)
