"""What searches find for the same work: EPO, other methods, random prompts, the model's own texts, a corpus.

python scripts/quality.py --list=report --features=16 --seeds=2 --methods=paper,gcg,random,samples --iterations=80 \
    --population=8 --children=16 --output=docs/quality

gives every method the rows of tokens that the paper's search takes for these iterations (judging/rows.py counts them),
on features that a seed chose. It prints a line for each run and writes, after each, report.jsonl with what the run
found and report.md with tables: measures of each method, and each against the paper's search with intervals; at the end
report.png, hypervolume against rows. All scored prompts are in runs/. The same command goes on after an interruption,
given twice it divides the runs, and one with other methods adds to the same tables. --search_options=top_k=64
--label=fewer makes a variant of the last of --methods, under a name of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags
from judging.features import LISTS, features, kind_of
from judging.figure import curves_figure
from judging.methods import METHODS, READS_CORPUS, REFERENCE, SEARCHES
from judging.options import parse_options
from judging.records import SIZES, Record, Run, add_record, check_settings, read_records, record_of
from judging.rows import budget_of
from judging.scoring import prefix_of
from judging.tables import page
from judging.task import Task

import epo_jax
from epo_jax import command_line
from epo_jax.compilation_cache import use_compilation_cache
from epo_jax.config import BEST
from epo_jax.corpus.sources import list_files
from epo_jax.epo.guide import check_operators
from epo_jax.errors import EpoError
from epo_jax.report.saved_figure import write_figure
from epo_jax.scoring.api import feature_scales
from epo_jax.scoring.scale import RANDOM, Scale
from epo_jax.whole_files import write_whole

MODEL = flags.DEFINE_string("model", "smollm2-135m", "the model")
LIST = flags.DEFINE_enum("list", "tune", LISTS, "which features: those to tune with, or those to report")
FEATURES = flags.DEFINE_integer("features", 6, "how many features of the list")
SEEDS = flags.DEFINE_integer("seeds", 1, "runs of each method and feature")
METHODS_FLAG = flags.DEFINE_list("methods", [REFERENCE], f"of {', '.join(METHODS)}")
ITERATIONS = flags.DEFINE_integer("iterations", 80, "of the paper's search, whose rows everybody gets")
POPULATION = flags.DEFINE_integer("population", 8, "of the paper's search")
CHILDREN = flags.DEFINE_integer("children", 16, "of the paper's search, for each slot")
CORPUS = flags.DEFINE_string("corpus", None, f"file or folder of text that is read by {', '.join(READS_CORPUS)}")
OPTIONS = flags.DEFINE_string("search_options", "", "name=value;name=value: settings of the last of --methods")
LABEL = flags.DEFINE_string("label", None, "name of the variant that --search_options make")
OUTPUT = flags.DEFINE_string("output", None, "folder of runs and tables; the same command goes on in it", required=True)
PROGRAM = "quality"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method as it is run here.

    Attributes:
        name: the label of a variant, else the method's name.
        method: the method's name.
        config: settings that it is given.
        settings: what a run is known by, as JSON values.
    """

    name: str
    method: str
    config: epo_jax.EPOConfig
    settings: dict[str, object]


def main() -> None:
    """Run what is not there yet, and write the tables after each run."""
    if SEEDS.value < 1:
        raise EpoError(f"--seeds={SEEDS.value}: must be at least 1")
    config = epo_jax.EPOConfig(iterations=ITERATIONS.value, population=POPULATION.value, children=CHILDREN.value)
    budget = budget_of(config)
    entries = _entries(config, budget)
    folder = _folder()
    use_compilation_cache()
    lm = epo_jax.load_model(MODEL.value, dtype="float32")
    names = features(lm, LIST.value, FEATURES.value)
    lines = folder / f"{LIST.value}.jsonl"
    records = read_records(lines)
    for entry in entries:
        check_settings(records, lm.source, entry.name, entry.settings)
    scales = _scales(lm, names, config.length, records)
    corpus = None if CORPUS.value is None else Path(CORPUS.value)
    for feature in names:
        for seed in range(SEEDS.value):
            for entry in entries:
                run = Run(lm.source, entry.name, feature, seed, entry.settings)
                with _claimed(folder, run) as mine:
                    # Read anew each time: another program may have added runs.
                    if not mine or any(record.run == run for record in read_records(lines)):
                        continue
                    task = Task(lm, feature, seed, budget, _fitted(entry.config, lm), corpus)
                    _run(run, entry, task, scales[feature], folder)
                _write_page(folder, lines, entries[0].settings, lm.source)
    _write_page(folder, lines, entries[0].settings, lm.source)
    _write_figure(folder, lines, entries[0].settings, lm.source)


def _entries(config: epo_jax.EPOConfig, budget: int) -> list[Entry]:
    """The methods that are asked for, the last one with its options.

    Raises:
        EpoError: a method that there is not or that cannot be run so, or options without a label.
    """
    methods = list(dict.fromkeys(METHODS_FLAG.value))
    if not methods:
        raise EpoError(f"--methods: none given; the methods are {', '.join(METHODS)}")
    for method in methods:
        if method not in METHODS:
            raise EpoError(f"--methods={method}: not one of {', '.join(METHODS)}")
    sizes = {name: getattr(config, name) for name in SIZES if name != "budget"} | {"budget": budget}
    own = {BEST: dataclasses.replace(config, search=BEST)}
    entries = [Entry(method, method, own.get(method, config), sizes | _corpus_of(method)) for method in methods]
    if not OPTIONS.value and LABEL.value is None:
        return entries
    options = parse_options(OPTIONS.value)
    if not options or not LABEL.value:
        raise EpoError("--label and --search_options: a variant needs both, its name and what it changes")
    if re.fullmatch(r"[\w.+-]+", LABEL.value) is None:
        raise EpoError(f"--label={LABEL.value}: must be letters, digits and . _ + - alone; it names a folder")
    if LABEL.value in METHODS:
        raise EpoError(f"--label={LABEL.value}: is a method's own name; give another")
    last = methods[-1]
    if last not in SEARCHES:
        raise EpoError(f"--search_options: {last} has none; name one of {', '.join(SEARCHES)} last in --methods")
    changed = {"variant_of": last, "options": options}
    variant = dataclasses.replace(own.get(last, config), **options)
    check_operators(variant)
    return [*entries[:-1], Entry(LABEL.value, last, variant, sizes | _corpus_of(last) | changed)]


def _fitted(config: epo_jax.EPOConfig, lm: epo_jax.LanguageModel) -> epo_jax.EPOConfig:
    """With no more tokens kept by gradient than the model has."""
    return dataclasses.replace(config, top_k=min(config.top_k, lm.config.vocab_size))


def _corpus_of(method: str) -> dict[str, str]:
    if method not in READS_CORPUS:
        return {}
    if CORPUS.value is None:
        raise EpoError(f"--corpus: none given, and {method} reads one; name a file or folder of text")
    list_files(CORPUS.value)
    return {"corpus": Path(CORPUS.value).name}


def _folder() -> Path:
    folder = Path(OUTPUT.value).expanduser()
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EpoError(f"--output={folder}: cannot be made ({error.strerror})") from error
    return folder


def _scales(lm: epo_jax.LanguageModel, names: Sequence[str], length: int, records: list[Record]) -> dict[str, Scale]:
    """The scale of each feature, as an earlier run has it, or found now, for all of a kind at once."""
    known = {
        one.run.feature: one.scale
        for one in records
        if (one.run.model, one.run.settings["length"]) == (lm.source, length)
    }
    for kind in dict.fromkeys(map(kind_of, names)):
        new = [name for name in names if kind_of(name) == kind and name not in known]
        if new:
            found = feature_scales(lm, [epo_jax.parse_feature(name, lm) for name in new], length, scale=RANDOM)
            known |= dict(zip(new, found, strict=True))
    return known


@contextlib.contextmanager
def _claimed(folder: Path, run: Run) -> Iterator[bool]:
    """Whether no other program is at this run; it keeps away as long as this goes on."""
    path = folder / "runs" / run.method / f"{run.slug}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("wb")
    except OSError as error:
        raise EpoError(f"--output={folder}: cannot be written ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _run(run: Run, entry: Entry, task: Task, scale: Scale, folder: Path) -> None:
    began = time.perf_counter()
    trace = METHODS[entry.method](task)
    path = folder / "runs" / run.method / f"{run.slug}.npz"
    record = record_of(run, trace, scale, task.lm, task.config, prefix_of(task.lm).tolist())
    try:
        trace.save(path)
        add_record(folder / f"{LIST.value}.jsonl", record)
    except OSError as error:
        raise EpoError(f"--output={folder}: cannot be written ({error.strerror})") from error
    found = record.measures
    best, fluent = ("none" if z is None else f"{z:.2f}" for z in (found.best, found.best_below_6))
    print(
        f"{run.method} {run.feature} seed {run.seed}: hypervolume {found.hypervolume:.2f}, best z {best}, "
        f"below 6 nats/token {fluent}; {found.prompts:,} prompts, {time.perf_counter() - began:.0f} s",
        flush=True,
    )


def _shown(lines: Path, sizes: dict[str, object], model: str) -> list[Record]:
    """The runs that are held against one another, methods and features in the order of their first runs."""
    return [
        record
        for record in read_records(lines)
        if record.run.model == model and all(record.run.settings[name] == sizes[name] for name in SIZES)
    ]


def _told(model: str, sizes: dict[str, object]) -> str:
    return (
        f"{model}; {sizes['budget']:,} rows for each run, those of {sizes['iterations']} iterations of the paper's "
        f"search with {sizes['population']} slots of {sizes['children']} children, {sizes['length']} tokens."
    )


def _write_page(folder: Path, lines: Path, sizes: dict[str, object], model: str) -> None:
    try:
        # Two programs that write at once would take one another's unfinished file.
        with lines.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            text = page(f"Searches on the features to {LIST.value}", _told(model, sizes), _shown(lines, sizes, model))
            write_whole(folder / f"{LIST.value}.md", text.encode())
    except OSError as error:
        raise EpoError(f"--output={folder}: cannot be written ({error.strerror})") from error


def _write_figure(folder: Path, lines: Path, sizes: dict[str, object], model: str) -> None:
    figure = curves_figure(_shown(lines, sizes, model), f"Searches of {model} on the same work")
    try:
        write_figure(figure, folder / LIST.value)
    except OSError as error:
        raise EpoError(f"--output={folder}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    command_line.start(main, PROGRAM)
