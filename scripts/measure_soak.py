"""Sweep for a while in one process, and print what grows: memory, open files, threads, compiled programs.

python scripts/measure_soak.py --model=random:CONFIG.json --minutes=45

dreams one neuron after another, in batches and with a tiny budget, and prints a line now and then. It needs Linux,
which tells a process what it holds.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from pathlib import Path

import jax
from absl import flags

import epo_jax
from epo_jax import command_line
from epo_jax.errors import EpoError
from epo_jax.sweep import SweepProgress, sweep

MODEL = flags.DEFINE_string("model", "smollm2-135m", "embedded model's name, .gguf file, folder, or random:CONFIG.json")
MINUTES = flags.DEFINE_float("minutes", 45.0, "how long", lower_bound=0.0)
EVERY = flags.DEFINE_float("every", 60.0, "seconds between lines")
AT_ONCE = flags.DEFINE_integer("dreams_at_once", 8, "dreams of a batch", lower_bound=1)
ITERATIONS = flags.DEFINE_integer("iterations", 3, "of each dream", lower_bound=1)
REPORTS = flags.DEFINE_boolean("reports", True, "whether each dream gets its report and pictures")
OUTPUT = flags.DEFINE_string("output", None, "the sweep's folder; by default a temporary one")

PROGRAM = "measure_soak"
COMPILED = "/jax/core/compile/backend_compile_duration"
_PROC = Path("/proc/self")


def main() -> None:
    """Sweep, and print figures until the time is over."""
    if not (_PROC / "statm").exists():
        raise EpoError(f"{_PROC}/statm is not there, which tells how much memory the process has; Linux has it")
    programs = 0

    def compiled(event: str, *_: object, **__: object) -> None:
        nonlocal programs
        programs += event == COMPILED

    jax.monitoring.register_event_duration_secs_listener(compiled)
    lm = epo_jax.load_model(MODEL.value)
    neurons = [f"L{layer}.N{at}" for at in range(lm.config.mlp_width) for layer in range(lm.config.layers)]
    # A whole number of batches, so that none is smaller, which would be a program of its own.
    neurons = neurons[: len(neurons) // AT_ONCE.value * AT_ONCE.value]
    started, printed = time.monotonic(), float("-inf")
    print("| minutes | dreams | resident, MiB | Python objects | open files | threads | programs | maps |", flush=True)
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)

    def tell(told: SweepProgress) -> bool:
        nonlocal printed
        now = time.monotonic() - started
        if now - printed >= EVERY.value and not told.together:
            printed = now
            print(_line(now, told.done, programs), flush=True)
        return now >= 60 * MINUTES.value

    config = epo_jax.EPOConfig(iterations=ITERATIONS.value, population=2, children=4, length=5, top_k=64)
    with tempfile.TemporaryDirectory(prefix="epo_jax_soak_") as temporary:
        done = sweep(
            lm,
            neurons,
            config,
            output=OUTPUT.value or temporary,
            dreams_at_once=AT_ONCE.value,
            reports=REPORTS.value,
            callback=tell,
            attribution=False,
            continuation=False,
        )
        print(_line(time.monotonic() - started, done.done, programs))


def _line(seconds: float, dreams: int, programs: int) -> str:
    gc.collect()
    pages = int((_PROC / "statm").read_text().split()[1])
    figures = (
        f"{seconds / 60:.1f}",
        dreams,
        f"{pages * os.sysconf('SC_PAGE_SIZE') / 2**20:.0f}",
        len(gc.get_objects()),
        len(os.listdir(_PROC / "fd")),
        len(os.listdir(_PROC / "task")),
        programs,
        (_PROC / "maps").read_text().count("\n"),
    )
    return f"| {' | '.join(map(str, figures))} |"


if __name__ == "__main__":
    command_line.start(main, PROGRAM)
