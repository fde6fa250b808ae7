"""Kill dreams at random moments, go on with them, and compare their histories with that of one that was never killed.

python scripts/check_resume.py --runs=50 --model=random:CONFIG.json --feature=L1.N5 --iterations=1500 --noattribution
python scripts/check_resume.py --runs=3 --model=smollm2-135m --iterations=20 --noattribution

Each run is killed with SIGKILL, most of them several times, at moments drawn between the start of its process and the
time that the whole one took; checkpoints follow each other so closely that many kills fall into one, and every third
kill waits for one. It prints a line for each run and the count of those whose history.npz has the bytes of the unbroken
one, and ends with exit code 1 if one has not. The dreams get the flags that this script is given; they are forks of its
process, which has imported everything, so that starting one takes half the time.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NoReturn

from absl import flags

from epo_jax import command_line
from epo_jax.dream import __main__ as command
from epo_jax.dream.folders import CHECKPOINTS, CONFIG, HISTORY
from epo_jax.errors import EpoError

PROGRAM = "check_resume"
# Kills while the program starts, and kills that wait for a checkpoint to be under way, as shares.
EARLY, IN_A_CHECKPOINT = 0.15, 0.35

RUNS = flags.DEFINE_integer("runs", 50, "runs that are killed")
MOST_KILLS = flags.DEFINE_integer("most_kills", 3, "the most times that one run is killed")
DRAW = flags.DEFINE_integer("draw", 0, "seed of the moments")
flags.adopt_module_key_flags(command)
flags.FLAGS.set_default("checkpoint_every", 0.05)


@dataclasses.dataclass
class Kills:
    """What was met by kills.

    Attributes:
        all: of a process that was under way.
        saving: of those, in the middle of a checkpoint.
        finishing: while results were written.
        empty: before the first checkpoint.
    """

    all: int = 0
    saving: int = 0
    finishing: int = 0
    empty: int = 0


def main() -> None:
    """Run all and print the count."""
    draw = random.Random(DRAW.value)
    folder = Path(tempfile.mkdtemp() if command.OUTPUT.value is None else command.OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    _import_all()
    whole = folder / "whole"
    # The first one compiles, so its times say nothing.
    for _ in range(2):
        shutil.rmtree(whole, ignore_errors=True)
        started = time.monotonic()
        process = _start(whole)
        _wait_for_search(process, whole, _told(whole))
        begun = time.monotonic()
        _end(process, whole)
    startup, seconds = begun - started, time.monotonic() - begun
    print(f"the unbroken run took {seconds:.1f} s, after {startup:.1f} s of starting", flush=True)
    same, kills, started = 0, Kills(), time.monotonic()
    for number in range(RUNS.value):
        output, met = folder / f"run{number}", 0
        while not met:
            # One that ended before it was killed says nothing.
            shutil.rmtree(output, ignore_errors=True)
            wanted = draw.randint(1, MOST_KILLS.value)
            for _ in range(wanted):
                early, waiting = draw.random() < EARLY, draw.random() < IN_A_CHECKPOINT
                # Several kills share the time that the search takes.
                after = draw.uniform(0, startup if early else seconds / wanted)
                met += _killed(output, not early, after, waiting and not early, draw.uniform(0, 0.02), kills)
        _end(_start(output), output)
        equal = _histories(output) == _histories(whole)
        same += equal
        print(f"run {number}: killed {met} times, {'the same' if equal else 'ANOTHER'} history", flush=True)
        shutil.rmtree(output)
    print(
        f"{same} of {RUNS.value} runs have the history of the unbroken run; {kills.all} kills, {kills.saving} of them "
        f"during a checkpoint, {kills.finishing} while results were written, {kills.empty} before there was a "
        f"checkpoint; {time.monotonic() - started:.0f} s"
    )
    if command.OUTPUT.value is None:
        shutil.rmtree(folder)
    if same < RUNS.value:
        sys.exit(1)


def _import_all() -> None:
    """Import what dreams import late, but touch no device: a process that has is not to be forked."""
    from orbax.checkpoint import v1  # noqa: F401
    from transformers import AutoConfig

    AutoConfig.for_model("llama").to_dict()


def _start(output: Path) -> int:
    """Start or go on with a dream; the number of its process."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        _dream(output)
    return process


def _dream(output: Path) -> NoReturn:
    code = 1
    try:
        log = os.open(_log(output), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log, stream.fileno())
        flags.FLAGS["output"].value, flags.FLAGS["resume"].value = str(output), True
        command_line.guarded(command.terminable_main, command.PROGRAM)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        # The rest of the script is the first process's.
        os._exit(code)


def _end(process: int, output: Path) -> None:
    if os.waitpid(process, 0)[1]:
        raise EpoError(f"a dream failed or did not go on; see {_log(output)}")


def _log(output: Path) -> Path:
    return output.with_name(output.name + ".log")


def _told(output: Path) -> int:
    """How often a run has told how far it is."""
    return _log(output).read_bytes().count(b"iteration ") if _log(output).exists() else 0


def _ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait_for_search(process: int, output: Path, before: int) -> None:
    while not _ended(process) and _told(output) <= before:
        time.sleep(0.005)


def _killed(output: Path, searching: bool, after: float, saving: bool, later: float, kills: Kills) -> int:
    """Start or go on with a run and kill it.

    Args:
        output: its folder.
        searching: whether seconds count from the beginning of its search, not from the start of its process.
        after: seconds.
        saving: whether to wait until a checkpoint is being written then.
        later: seconds to wait from then on.
        kills: of all runs; this one is added.

    Returns:
        1, or 0 where the run ended before.
    """
    before = _told(output)
    process = _start(output)
    if searching:
        _wait_for_search(process, output, before)
    until = time.monotonic() + after
    while not _ended(process) and time.monotonic() < until:
        time.sleep(0.001)
    if saving:
        while not _ended(process) and not _unfinished(output):
            time.sleep(0.0005)
        time.sleep(later)
    under_way = not _ended(process)
    if under_way:
        os.kill(process, signal.SIGKILL)
    if not os.WIFSIGNALED(os.waitpid(process, 0)[1]):
        return 0
    there = list((output / CHECKPOINTS).glob("[0-9]*"))
    kills.all += 1
    kills.saving += _unfinished(output)
    kills.finishing += (output / CONFIG).exists()
    kills.empty += not any(path.name.isdigit() for path in there) and not (output / CONFIG).exists()
    return 1


def _unfinished(output: Path) -> bool:
    """Whether a checkpoint, or its history, is half written."""
    here = output / CHECKPOINTS
    try:
        return any(not path.name.isdigit() for path in here.glob("[0-9]*")) or any(here.glob("history/*.part"))
    except FileNotFoundError:
        # The run has just ended, and removed all of it.
        return False


def _histories(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob(HISTORY))}


if __name__ == "__main__":
    command_line.start(main, PROGRAM)
