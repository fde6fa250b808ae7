"""Max-activating dataset examples of thousands of features, in one pass over a corpus.

python scripts/scan_corpus.py --model=smollm2-135m --corpus=books/ --neurons=0:30 --features="logit: dog" --output=scan

streams text files, JSONL, Parquet or a dataset of the hub through the model, keeps the 64 strongest hits of each
feature with their context and a histogram of all its activations, and then scores each hit again as the isolated 12
tokens that end at it, which is what a dream is compared with. It prints tokens per second on the way and what it found
of the first features. The same command goes on after any interruption. With --distributed, several processes that run
it share the windows.
epo_jax.corpus.load_scan("scan").examples("L7.N690") reads the folder.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Sequence

from absl import flags
from rich.console import Console
from rich.table import Table
from rich.text import Text

import epo_jax
from epo_jax import command_line
from epo_jax.compilation_cache import use_compilation_cache
from epo_jax.corpus import (
    Document,
    ScanConfig,
    ScanProgress,
    latents_of,
    load_scan,
    neurons_of,
    others_of,
    read_documents,
    rescore,
    scan,
)
from epo_jax.corpus.groups import Group
from epo_jax.corpus.sources import list_files
from epo_jax.dream import process_flags
from epo_jax.errors import EpoError
from epo_jax.models.config import DTYPES
from epo_jax.parallel import make_mesh, processes
from epo_jax.parallel.mesh import AUTO
from epo_jax.report.tokens import visible
from epo_jax.scoring.template import BOS, Template
from epo_jax.sweep import listed_features

MODEL = flags.DEFINE_string("model", "smollm2-135m", "embedded model's name, .gguf file, folder, or hub id")
REVISION = flags.DEFINE_string("revision", None, "branch, tag or commit of a model of the hub")
DTYPE = flags.DEFINE_enum("dtype", None, list(DTYPES), "by default float32 on a CPU, bfloat16 on an accelerator")
MESH = flags.DEFINE_string(
    "mesh",
    None,
    "devices that share the windows, data:8, or windows and weights, data:4,model:2; auto takes all; by default one, "
    "and all with --distributed",
)
CORPUS = flags.DEFINE_multi_string(
    "corpus", [], "file or folder of .txt, .md, .rst, .jsonl, .parquet (and .gz), or a dataset's id; may be repeated"
)
COLUMN = flags.DEFINE_string("column", "text", "field of JSONL and column of Parquet that holds the text")
NEURONS = flags.DEFINE_multi_string("neurons", [], 'layers of which all neurons are read: "3" or "0:30", half-open')
LATENTS = flags.DEFINE_multi_string("latents", [], "autoencoder, PATH/ID, of which all latents are read")
FEATURES = flags.DEFINE_multi_string("features", [], "other feature strings or ranges of them; may be repeated")
FEATURES_FILE = flags.DEFINE_multi_string("features_file", [], "file with a feature or a range a line")
ISOLATED = flags.DEFINE_multi_string(
    "isolated", ["all"], "features whose hits are scored as isolated tokens: all, none, or feature strings, @FILE too"
)
LENGTH = flags.DEFINE_integer("length", 12, "tokens of a dream")
CONTEXT = flags.DEFINE_integer("context", 256, "tokens of a window")
KEEP = flags.DEFINE_integer("keep", 64, "hits that are kept of each feature")
BATCH = flags.DEFINE_integer("batch", 8, "windows that a device runs at a time")
TOKENS = flags.DEFINE_integer("tokens", None, "tokens of the corpus after which the scan ends; by default all")
SAVE_EVERY = flags.DEFINE_float("save_every", 60, "seconds between savings")
BOS_FLAG = flags.DEFINE_enum("bos", "auto", list(BOS), "whether a BOS stands before each window and isolated prompt")
OUTPUT = flags.DEFINE_string("output", None, "the scan's folder; the same command goes on in it", required=True)
flags.adopt_module_key_flags(process_flags)
PROGRAM = "scan_corpus"
_SHOWN = 5


def main() -> None:
    """Scan, score, print; of several processes of one job the first one alone prints."""
    with process_flags.joined(PROGRAM):
        _main()


def _main() -> None:
    if not CORPUS.value:
        raise EpoError("--corpus: none given; name a file, a folder or a dataset's id")
    if not (NEURONS.value or LATENTS.value or FEATURES.value or FEATURES_FILE.value):
        raise EpoError("--neurons: neither these nor --latents nor --features given; say what to read, such as 0:30")
    for source in CORPUS.value:
        list_files(source)
    use_compilation_cache()
    console = Console(highlight=False, quiet=not processes.is_writer())
    asked = MESH.value or (AUTO if process_flags.DISTRIBUTED.value else None)
    mesh = asked if asked is None or asked == AUTO else make_mesh(asked)
    lm = epo_jax.load_model(MODEL.value, DTYPE.value, revision=REVISION.value, mesh=mesh)
    groups = _groups(lm)
    count = sum(len(names) for _, names in groups)
    console.print(f"{count:,} features of {lm.source}", soft_wrap=True)
    config = ScanConfig(LENGTH.value, CONTEXT.value, KEEP.value, BATCH.value, TOKENS.value, SAVE_EVERY.value)
    template = Template("", "", BOS_FLAG.value)

    def progress(told: ScanProgress) -> None:
        console.print(
            f"{told.tokens:,} tokens in {told.seconds:,.0f} s, {told.rate:,.0f} tokens/s", soft_wrap=True, style="dim"
        )

    told = {"corpus": list(CORPUS.value), "column": COLUMN.value}
    folder = scan(lm, _documents(), groups, OUTPUT.value, config, template=template, told=told, callback=progress)
    _rescore(console, lm, groups)
    if processes.is_writer():
        _print(console, lm, str(folder))


def _groups(lm: epo_jax.LanguageModel) -> list[tuple[Group, Sequence[str]]]:
    groups: list[tuple[Group, Sequence[str]]] = []
    if NEURONS.value:
        groups.append(neurons_of(lm, [layer for text in NEURONS.value for layer in _range(text, lm.config.layers)]))
    groups.extend(latents_of(lm, name) for name in LATENTS.value)
    if FEATURES.value or FEATURES_FILE.value:
        names = listed_features(FEATURES.value, FEATURES_FILE.value)
        # Of a layer that is read as a whole, none is read twice.
        read = {name for _, group in groups for name in group}
        groups.extend(others_of([epo_jax.parse_feature(name, lm) for name in names if name not in read]))
    return groups


def _range(text: str, layers: int) -> range:
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    if match is None or (match[2] is not None and int(match[2]) <= int(match[1])):
        raise EpoError(f'--neurons={text}: must be a layer, "3", or a half-open range of layers, "0:{layers}"')
    return range(int(match[1]), int(match[2] or int(match[1]) + 1))


def _documents() -> Iterator[Document]:
    return itertools.chain.from_iterable(read_documents(source, COLUMN.value) for source in CORPUS.value)


def _rescore(console: Console, lm: epo_jax.LanguageModel, groups: list[tuple[Group, Sequence[str]]]) -> None:
    asked = ISOLATED.value
    if asked == ["none"]:
        return
    names: list[str] | None = None
    if asked != ["all"]:
        names = listed_features([text for text in asked if text[:1] != "@"], [t[1:] for t in asked if t[:1] == "@"])
    began = last = time.monotonic()

    def progress(run: int, whole: int) -> None:
        nonlocal last
        if run == whole or time.monotonic() - last > SAVE_EVERY.value:
            last = time.monotonic()
            console.print(f"{run:,} of {whole:,} isolated prompts, {last - began:,.0f} s", soft_wrap=True, style="dim")

    rescore(lm, groups, OUTPUT.value, names, callback=progress)


def _print(console: Console, lm: epo_jax.LanguageModel, folder: str) -> None:
    found = load_scan(folder)
    table = Table("feature", "99.9th percentile", "maximum", "isolated", "nats/token", "strongest example")
    for name in found.features[:_SHOWN]:
        examples = found.examples(name)
        if not len(examples.activation):
            continue
        alone, nats = examples.isolated_activation, examples.isolated_cross_entropy
        table.add_row(
            Text(name), f"{examples.percentiles[99.9]:.3f}", f"{examples.maximum:.3f}",
            "" if alone is None else f"{alone[0]:.3f}", "" if nats is None else f"{nats[0]:.2f}",
            Text(visible(str(lm.tokenizer.decode(examples.ids[0].tolist())))),
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{found.tokens:,} tokens, {found.positions:,} positions, {len(found.features):,} features, "
        f"{found.tokens / max(found.seconds, 1e-9):,.0f} tokens/s; {folder}",
        soft_wrap=True,
    )


if __name__ == "__main__":
    command_line.start(main, PROGRAM)
