"""The names in a run folder, and folders that may be written; run folders below a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from epo_jax.errors import EpoError

CONFIG, HISTORY, FRONTIER_CSV, FRONTIER_JSON = "config.json", "history.npz", "frontier.csv", "frontier.json"
PICTURE, REPORT, TOKENS, EXAMPLES = "frontier.png", "report.html", "tokens.json", "examples.json"
# Of a folder of runs.
INDEX = "index.html"
# What a run that has not ended keeps in its folder; under the other names it counts for nothing, nor does a lock.
CHECKPOINTS, BEGUN, DONE, LOCK = "checkpoints", "checkpoints.begun", "checkpoints.done", "run.lock"


def check_folder(folder: str | Path, overwrite: bool = False) -> Path:
    """Check, without making anything, that a run folder may be written.

    Raises:
        EpoError: it is a file, or it is not empty and not to be overwritten.
    """
    path = Path(folder).expanduser()
    try:
        if path.exists() and not path.is_dir():
            raise EpoError(f"--output={folder}: is a file; give a folder")
        if path.is_dir() and not overwrite and any(one.name not in (BEGUN, DONE, LOCK) for one in path.iterdir()):
            raise EpoError(
                f"--output={folder}: the folder exists and is not empty; give another, --resume to go on with the run "
                "that it holds, or --overwrite"
            )
    except OSError as error:
        raise EpoError(f"--output={folder}: cannot be read ({error})") from error
    return path


def prepare_folder(folder: str | Path, overwrite: bool = False) -> Path:
    """Make the run folder, and prove that it can be written; what it holds stays.

    Raises:
        EpoError: it is not empty and not to be overwritten, or it cannot be made or written.
    """
    check_folder(folder, overwrite)
    return writable_folder(folder, "output")


def writable_folder(folder: str | Path, flag: str) -> Path:
    """Make a folder, and prove that it can be written.

    Raises:
        EpoError: it cannot be made or written; named by the flag that gave it.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise EpoError(f"--{flag}={folder}: cannot be written ({error})") from error
    return path


def runs_below(folder: str | Path, flag: str) -> list[Path]:
    """The run folders of a folder at any depth, itself among them, in the order of their names.

    Raises:
        EpoError: there is none; named by the flag that gave the folder.
    """
    path = Path(folder).expanduser()
    found = sorted(one.parent for one in path.rglob(HISTORY) if one.is_file()) if path.is_dir() else []
    if not found:
        raise EpoError(f"--{flag}={folder}: holds no run")
    return found
