"""What a search would take on devices that need not be here, before anybody pays for them.

python scripts/plan.py --model=random:pythia-12b --topology=v5e:2x4

compiles the program that `python -m epo_jax.dream` would run there, with shapes in the place of weights, and prints for
each mesh and number of dreams whether it fits, the memory of each device, what travels between devices, operations and
estimated times. TPUs need libtpu and no TPU: pip install "epo-jax[tpu]". --topology=cpu and gpu are this machine's.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import flags
from rich.console import Console
from rich.table import Table

from epo_jax import command_line
from epo_jax.config import PRESETS, SEARCHES
from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.models.config import DTYPES
from epo_jax.planning import Machine, Trial, abstract_model, best_of, machine_of, plan
from epo_jax.planning.devices import LOCAL
from epo_jax.planning.plan import meshes_of
from epo_jax.scoring.template import Template

MODEL = flags.DEFINE_string("model", "random:pythia-12b", "a model's name, folder or config.json; no weights are read")
REVISION = flags.DEFINE_string("revision", None, "branch, tag or commit of a model of the hub")
TOPOLOGY = flags.DEFINE_string(
    "topology", "v5e:2x4", "TPUs, such as v5e:2x4 or v5p:2x2x1, or cpu or gpu of this machine"
)
FEATURE = flags.DEFINE_string("feature", None, "what is maximized; by default a neuron in the middle of the model")
PRESET = flags.DEFINE_enum("preset", "paper", list(PRESETS), "settings of the search")
SEARCH = flags.DEFINE_enum("search", None, list(SEARCHES), "which search; by default the preset's")
MESH = flags.DEFINE_multi_string(
    "mesh", [], "mesh to try, such as data:4,model:2; may be repeated; by default all there are"
)
FSDP = flags.DEFINE_enum("fsdp", "both", ["both", "yes", "no"], "whether weights lie over data too")
DREAMS = flags.DEFINE_list("dreams", ["1", "8"], "numbers of dreams at once to try")
PREFIX_TOKENS = flags.DEFINE_integer(
    "prefix_tokens", 0, "frozen tokens before the prompt, a BOS included", lower_bound=0
)
SUFFIX_TOKENS = flags.DEFINE_integer("suffix_tokens", 0, "frozen tokens after the prompt", lower_bound=0)
DTYPE = flags.DEFINE_enum("dtype", None, list(DTYPES), "by default float32 on a CPU, bfloat16 on an accelerator")
MICRO_BATCH = flags.DEFINE_integer("micro_batch", None, "rows of a block; by default as many as fit", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "FILE.json or FILE.md to write")

NOWHERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    # It compiles for chips that nobody holds, so that several plans may be made at once.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def main() -> None:
    """Try, print, write."""
    output = None if OUTPUT.value is None else Path(OUTPUT.value)
    if output is not None and output.suffix not in (".json", ".md"):
        raise EpoError(f"--output={output}: ends neither in .json nor in .md")
    dreams = _numbers()
    if TOPOLOGY.value not in LOCAL:
        # Nothing runs but the compiler, and this machine's devices are left alone.
        jax.config.update("jax_platforms", "cpu")
        # The compiler would ask the network which TPU this machine is part of.
        for name, value in NOWHERE.items():
            os.environ.setdefault(name, value)
    dtype = DTYPE.value or ("float32" if TOPOLOGY.value == "cpu" else "bfloat16")
    lm = abstract_model(MODEL.value, dtype, REVISION.value)
    machine = machine_of(TOPOLOGY.value)
    console = Console(highlight=False, width=None if Console().is_terminal else 200)
    memory = "unknown" if machine.memory is None else f"{machine.memory / 2**30:.2f} GiB usable of each"
    console.print(
        f"{MODEL.value} in {dtype} on {len(machine.devices)} x {machine.kind}, memory {memory}", soft_wrap=True
    )
    trials = []
    for trial in _trials(lm, machine, dreams):
        trials.append(trial)
        console.print(_line(trial), soft_wrap=True)
    console.print(_table(trials))
    _notes(console, machine, trials)
    if output is not None and output.suffix == ".json":
        output.write_text(json.dumps([dataclasses.asdict(one) for one in trials], indent=1) + "\n")
    elif output is not None:
        output.write_text(markdown(trials))


def _numbers() -> list[int]:
    try:
        numbers = [int(one) for one in DREAMS.value]
    except ValueError as error:
        raise EpoError(f"--dreams={','.join(DREAMS.value)}: not whole numbers") from error
    if not numbers or min(numbers) < 1:
        raise EpoError(f"--dreams={','.join(DREAMS.value)}: numbers of at least 1 are read")
    return numbers


def _trials(lm: LanguageModel, machine: Machine, dreams: list[int]) -> Iterator[Trial]:
    wanted = {"both": (False, True), "yes": (True,), "no": (False,)}[FSDP.value]
    meshes = [(text, fsdp) for text in MESH.value for fsdp in wanted] or [
        one for one in meshes_of(len(machine.devices)) if one[1] in wanted
    ]
    template = Template(" ".join(["t0"] * PREFIX_TOKENS.value), " ".join(["t0"] * SUFFIX_TOKENS.value))
    feature = FEATURE.value or f"L{lm.config.layers // 2}.N0"
    config = PRESETS[PRESET.value]
    if SEARCH.value is not None:
        config = dataclasses.replace(config, search=SEARCH.value)
    return plan(lm, machine, config, feature, meshes, dreams, template, MICRO_BATCH.value)


def _line(trial: Trial) -> str:
    if trial.refused:
        return f"{_name(trial)}: does not fit: {trial.refused}"
    moved = _moved(trial)
    return f"{_name(trial)}: fits; compiled in {trial.compile_seconds:.0f} s; travels in an iteration: {moved}"


def _moved(trial: Trial) -> str:
    """What travels, by kind, the most first."""
    kinds = sorted(trial.collectives.items(), key=lambda one: -one[1])
    return ", ".join(f"{kind} {_size(count)}" for kind, count in kinds) or "nothing"


def _name(trial: Trial) -> str:
    return f"{trial.mesh}{' fsdp' if trial.fsdp else ''}, {trial.dreams} dream{'s' if trial.dreams > 1 else ''}"


COLUMNS = (
    *("mesh and dreams", "fits", "weights", "cache", "temporaries", "in all", "block rows", "travels"),
    *("TFLOP", "TFLOP counted", "ms counted", "estimated s", "candidates/s", "compile s"),
)


def cells(trial: Trial) -> list[str]:
    """A trial's figures as text, one for each column."""

    def of(value: float | None, form: str, factor: float = 1.0) -> str:
        return "" if value is None else format(value * factor, form)

    return [
        _name(trial),
        "no" if trial.refused else "yes",
        _size(trial.weights),
        "" if trial.cache is None else _size(trial.cache),
        "" if trial.temporaries is None else _size(trial.temporaries),
        "" if trial.needed is None else _size(trial.needed),
        of(trial.rows, ".0f"),
        "" if trial.needed is None else _size(math.fsum(trial.collectives.values())),
        of(trial.operations, ".3g", 1e-12),
        of(trial.counted, ".3g", 1e-12),
        of(trial.compiler_seconds, ".3g", 1e3),
        of(trial.seconds, ".3g"),
        of(trial.rate or None, ",.0f"),
        of(trial.compile_seconds, ".0f"),
    ]


def markdown(trials: list[Trial]) -> str:
    """The table in Markdown."""
    lines = [" | ".join(COLUMNS), " | ".join(["---"] * 2 + ["---:"] * (len(COLUMNS) - 2))]
    lines += [" | ".join(cells(trial)) for trial in trials]
    return "".join(f"| {line} |\n" for line in lines)


def _table(trials: list[Trial]) -> Table:
    table = Table(*COLUMNS)
    for trial in trials:
        table.add_row(*cells(trial))
    return table


def _notes(console: Console, machine: Machine, trials: list[Trial]) -> None:
    notes = [
        "memory is of each device; temporaries hold the cache; what travels is what one device gets in an iteration, "
        "with loops as often as they run on average",
        "TFLOP: of an iteration, on all devices; counted: by the compiler for one device, with each loop's body once",
    ]
    if machine.peaks is None:
        notes.append(f"no estimate of seconds: what {machine.kind} does at most is not known here")
    else:
        peaks = machine.peaks
        notes.append(
            f"estimated seconds are a lower bound from {peaks.operations / 1e12:.0f} TFLOP/s, {peaks.memory / 1e9:.0f} "
            f"GB/s of memory and {peaks.links / 1e9:.0f} GB/s of links, from {peaks.source}; nothing was measured"
        )
    best = best_of(trials)
    told = "none of those tried fits" if best is None else f"best of those that fit: {_name(best)}"
    if best is not None and best.seconds is not None:
        told += f" (--mesh={best.mesh}{' --fsdp' if best.fsdp else ''})"
    console.print(*notes, told, sep="\n", soft_wrap=True)


def _size(count: float) -> str:
    if not math.isfinite(count):
        return "more than there is"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} B"


if __name__ == "__main__":
    command_line.start(main, "plan")
