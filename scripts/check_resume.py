"""Kill dreams at random moments, go on with them, and compare their histories with that of one that was never killed.

python scripts/check_resume.py --runs=50 --model=random:CONFIG.json
python scripts/check_resume.py --runs=3 --model=smollm2-135m --iterations=20

Each run is killed with SIGKILL, some of them several times, at moments drawn between the start of its search and the
time that the whole one took; checkpoints follow each other so closely that many kills fall into one. It prints a line
for each run and the count of those whose history.npz has the bytes of the unbroken one, and ends with exit code 1 if
one has not.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from epo_jax import command_line
from epo_jax.dream.result import CHECKPOINTS, HISTORY
from epo_jax.errors import EpoError

PROGRAM = "check_resume"
# Kills while the program starts, as a share.
EARLY = 0.15

MODEL = flags.DEFINE_string("model", "smollm2-135m", "as in python -m epo_jax.dream")
FEATURE = flags.DEFINE_multi_string("feature", ["L1.N5"], "what is dreamed; may be repeated")
RUNS = flags.DEFINE_integer("runs", 50, "runs that are killed")
ITERATIONS = flags.DEFINE_integer("iterations", 200, "of each run")
CHECKPOINT_EVERY = flags.DEFINE_float("checkpoint_every", 0.2, "seconds between checkpoints")
MOST_KILLS = flags.DEFINE_integer("most_kills", 4, "the most times that one run is killed")
SEED = flags.DEFINE_integer("seed", 0, "of the moments, and of the dreams")
DREAM = flags.DEFINE_multi_string("dream", [], "further flag of the dreams, such as children=4; may be repeated")
FOLDER = flags.DEFINE_string("folder", None, "where runs are made; by default a temporary folder")


@dataclasses.dataclass
class Kills:
    """What was met by kills.

    Attributes:
        all: of a run that was under way.
        saving: of those, in the middle of a checkpoint.
        empty: before the first checkpoint.
    """

    all: int = 0
    saving: int = 0
    empty: int = 0


def main() -> None:
    """Run all and print the count."""
    draw = random.Random(SEED.value)
    folder = Path(tempfile.mkdtemp() if FOLDER.value is None else FOLDER.value)
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole"
    started = time.monotonic()
    process = _start(whole)
    _wait_for_search(process, whole, 0)
    begun = time.monotonic()
    if process.wait():
        raise EpoError(f"the unbroken run failed; see {_log(whole)}")
    startup, seconds = begun - started, time.monotonic() - begun
    print(f"the unbroken run searched for {seconds:.1f} s, after {startup:.1f} s of starting", flush=True)
    same, kills = 0, Kills()
    for number in range(RUNS.value):
        output, met = folder / f"run{number}", 0
        wanted = draw.randint(1, MOST_KILLS.value)
        for _ in range(wanted):
            if draw.random() < EARLY:
                met += _killed(output, 0, draw.uniform(0, startup), kills)
            else:
                # Several kills share the time that the search takes.
                met += _killed(output, 1, draw.uniform(0, seconds / wanted), kills)
        if _start(output).wait():
            raise EpoError(f"a run that was killed {met} times did not go on; see {_log(output)}")
        equal = _histories(output) == _histories(whole)
        same += equal
        print(f"run {number}: killed {met} times, {'the same' if equal else 'ANOTHER'} history", flush=True)
        shutil.rmtree(output)
    print(
        f"{same} of {RUNS.value} runs have the history of the unbroken run; {kills.all} kills, {kills.saving} of them "
        f"during a checkpoint, {kills.empty} before there was one"
    )
    if FOLDER.value is None:
        shutil.rmtree(folder)
    if same < RUNS.value:
        sys.exit(1)


def _start(output: Path) -> subprocess.Popen[bytes]:
    given = {
        "model": MODEL.value,
        "output": output,
        "iterations": ITERATIONS.value,
        "seed": SEED.value,
        "checkpoint_every": CHECKPOINT_EVERY.value,
    }
    words = [f"--{name}={value}" for name, value in given.items()]
    words += [f"--feature={feature}" for feature in FEATURE.value] + [f"--{flag}" for flag in DREAM.value]
    words += ["--preset=quick", "--noattribution", "--resume"]
    with _log(output).open("ab") as log:
        return subprocess.Popen([sys.executable, "-u", "-m", "epo_jax.dream", *words], stdout=log, stderr=log)


def _log(output: Path) -> Path:
    return output.with_name(output.name + ".log")


def _searching(output: Path) -> int:
    """How often a run has told how far it is."""
    return sum(line.startswith(b"iteration ") for line in _log(output).read_bytes().splitlines())


def _wait_for_search(process: subprocess.Popen[bytes], output: Path, before: int) -> None:
    while process.poll() is None and _searching(output) <= before:
        time.sleep(0.01)


def _killed(output: Path, searching: int, after: float, kills: Kills) -> int:
    """Start or go on with a run and kill it.

    Args:
        output: its folder.
        searching: 1 to count seconds from the beginning of its search, 0 from the start of its process.
        after: seconds.
        kills: of all runs; this one is added.

    Returns:
        1, or 0 where the run ended before.
    """
    before = _searching(output) if _log(output).exists() else 0
    process = _start(output)
    if searching:
        _wait_for_search(process, output, before)
    try:
        process.wait(after)
        return 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    there = [path.name for path in (output / CHECKPOINTS).glob("*")]
    kills.all += 1
    kills.saving += any(not name.isdigit() and name[:1].isdigit() for name in there) or bool(
        [*(output / CHECKPOINTS).glob("history/*.part")]
    )
    kills.empty += not any(name.isdigit() for name in there)
    return 1


def _histories(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob(HISTORY))}


if __name__ == "__main__":
    command_line.start(main, PROGRAM)
