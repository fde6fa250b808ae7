"""Kill a sweep at random moments and see that each feature is in its results exactly once.

python scripts/check_sweep.py --features=L0:25.N0:8 --kills=5 --workers=2 --output=checked

runs scripts/sweep.py with a tiny budget, in one process or in several that share the folder, kills one of them with
SIGKILL at random moments and starts it anew, lets them end, and prints how many features are in the table, how many are
missing and how many are there more than once.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
from absl import flags

from epo_jax import command_line
from epo_jax.dream.result import load_result
from epo_jax.errors import EpoError
from epo_jax.sweep import listed_features
from epo_jax.sweep.table import TABLE, part_names

MODEL = flags.DEFINE_string("model", "smollm2-135m", "as scripts/sweep.py takes it")
FEATURES = flags.DEFINE_multi_string("features", ["L0:25.N0:8"], "as scripts/sweep.py takes them")
KILLS = flags.DEFINE_integer("kills", 5, "how often it is killed", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "of the moments")
LATEST = flags.DEFINE_float("latest", 4.0, "seconds after a batch was seen in the table within which it is killed")
WORKERS = flags.DEFINE_integer("workers", 1, "processes that share the folder", lower_bound=1)
ITERATIONS = flags.DEFINE_integer("iterations", 3, "of each dream", lower_bound=1)
AT_ONCE = flags.DEFINE_integer("dreams_at_once", 8, "dreams of a batch", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "the sweep's folder; by default a temporary one")

PROGRAM = "check_sweep"
BUDGET = (
    "--population=2",
    "--children=4",
    "--length=5",
    "--top_k=64",
    "--noattribution",
    "--nocontinuation",
    "--noreports",
)
_SWEEP = Path(__file__).parent / "sweep.py"
_POLL = 0.05  # seconds


def main() -> None:
    """Kill, let it end, count."""
    features = listed_features(FEATURES.value)
    with tempfile.TemporaryDirectory(prefix="epo_jax_sweep_") as temporary:
        folder = Path(OUTPUT.value or temporary) / "sweep"
        command = [sys.executable, str(_SWEEP), f"--model={MODEL.value}", f"--output={folder}", *BUDGET]
        command += [f"--iterations={ITERATIONS.value}"]
        command += [f"--dreams_at_once={AT_ONCE.value}", *(f"--features={text}" for text in FEATURES.value)]
        batches = -(-len(features) // AT_ONCE.value)
        generator = random.Random(SEED.value)
        # Before this many batches are done, each time; the last one leaves work for the run that ends.
        moments = sorted(generator.randrange(batches) for _ in range(KILLS.value))
        running = [_started(command) for _ in range(WORKERS.value)]
        try:
            at_work = 0
            for number, moment in enumerate(moments, 1):
                chosen = generator.randrange(WORKERS.value)
                at_work += _killed(running[chosen], running, folder, moment, generator.uniform(0, LATEST.value))
                done = len(part_names(folder / TABLE))
                print(f"kill {number}: {done} of {batches} batches were in the table", flush=True)
                running[chosen] = _started(command)
            for process in running:
                _check_end(process.wait())
        finally:
            for process in running:
                process.kill()
        table = pd.read_parquet(folder / TABLE)
        counts = Counter(table["feature"])
        missing, doubled = set(features) - set(counts), [name for name, count in counts.items() if count > 1]
        broken = _broken_folders(folder, table)
        print(
            f"{len(features)} features, {at_work} kills: {len(table)} rows, {len(missing)} missing, {len(doubled)} "
            f"doubled, {table['error'].notna().sum()} failed, {broken} run folders that cannot be read"
        )
        if missing or doubled or broken or len(table) != len(features):
            raise EpoError(f"{folder}: not each feature is there exactly once")


def _started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _killed(
    chosen: subprocess.Popen[bytes], running: list[subprocess.Popen[bytes]], folder: Path, batches: int, later: float
) -> bool:
    """Kill a process some seconds after so many batches are done; whether it was still at work."""
    while any(process.poll() is None for process in running) and len(part_names(folder / TABLE)) < batches:
        time.sleep(_POLL)
    time.sleep(later)
    at_work = chosen.poll() is None
    if not at_work:
        _check_end(chosen.returncode)
    chosen.kill()
    chosen.wait()
    return at_work


def _check_end(code: int) -> None:
    if code != 0:
        raise EpoError(f"{_SWEEP}: ended with exit code {code}")


def _broken_folders(folder: Path, table: pd.DataFrame) -> int:
    broken = 0
    for row in table[table["error"].isna()].itertuples():
        try:
            same = load_result(folder / str(row.run_folder)).run.feature == row.feature
        except EpoError:
            same = False
        broken += not same
    return broken


if __name__ == "__main__":
    command_line.start(main, PROGRAM)
