"""A sweep's folder: what it is about stands in one file, written once, and is held against whoever goes on."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from epo_jax.errors import EpoError, one_line
from epo_jax.sweep.batches import Layout
from epo_jax.sweep.claims import Claims
from epo_jax.sweep.table import TABLE

SWEEP, CLAIMS, DREAMS, INDEX = "sweep.json", "claims", "dreams", "index.html"
_OWN = {SWEEP, CLAIMS, DREAMS, INDEX, TABLE}
_POLL = 0.2  # seconds
_LAYOUT = "layout"


def check_sweep_folder(output: str | Path) -> Path:
    """Check, without making anything, that a folder is a sweep's or may become one.

    Raises:
        EpoError: it is a file, or holds other things.
    """
    path = Path(output).expanduser()
    try:
        if path.exists() and not path.is_dir():
            raise EpoError(f"--output={output}: is a file; give a folder")
        if path.is_dir() and any(entry.name not in _OWN and entry.name[0] != "." for entry in path.iterdir()):
            raise EpoError(f"--output={output}: the folder exists and holds no sweep; give another")
    except OSError as error:
        raise EpoError(f"--output={output}: cannot be read ({error})") from error
    return path


def opened(path: Path, settings: Mapping[str, Any], features: Sequence[str], divide: Callable[[], Layout]) -> Layout:
    """The work of the sweep in a folder: what stands there, or a new division, which one of several processes writes.

    Args:
        path: the folder.
        settings: what results depend on, as JSON values.
        features: the feature strings.
        divide: makes the division; called where there is none yet.

    Raises:
        EpoError: the folder holds a sweep of other settings or features, or cannot be written.
    """
    told = json.loads(json.dumps({"settings": dict(settings), "features": list(features)}))
    claims = Claims(path / CLAIMS)
    while not (path / SWEEP).exists():
        claim = claims.take(_LAYOUT)
        if claim is None:
            time.sleep(_POLL)
            continue
        with claim:
            try:
                # Another may have written it between the two looks.
                if not (path / SWEEP).exists():
                    _write(path, {**told, **divide().to_json()})
            finally:
                claims.release(claim)
    kept = _read(path)
    difference = _difference(kept, told)
    if difference:
        raise EpoError(f"--output={path}: holds another sweep, {difference}; give its flags or another folder")
    return Layout.from_json(kept)


def kept_sweep(path: Path) -> tuple[Layout, str]:
    """The division into batches of the sweep in a folder, and the name of its model.

    Raises:
        EpoError: the file that holds them is damaged.
    """
    kept = _read(path)
    return Layout.from_json(kept), str(kept["settings"]["model"])


def _write(path: Path, values: Mapping[str, Any]) -> None:
    whole = path / f".{SWEEP}-{uuid.uuid4().hex}"
    try:
        with whole.open("w", encoding="utf-8") as file:
            json.dump(values, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(path / SWEEP)
    except OSError as error:
        with contextlib.suppress(OSError):
            whole.unlink(missing_ok=True)
        raise EpoError(f"--output={path}: cannot be written ({error})") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads((path / SWEEP).read_text(encoding="utf-8"))
        missing = {"settings", "features", "batches", "unusable"} - set(kept)
    except (OSError, ValueError) as error:
        raise EpoError(f"{path / SWEEP}: cannot be read ({one_line(error)})") from error
    if missing:
        raise EpoError(f"{path / SWEEP}: lacks {', '.join(sorted(missing))}")
    return kept


def _difference(kept: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """What differs between a sweep that is there and the one that is asked for; empty if nothing does."""
    before, now = kept["settings"], told["settings"]
    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    if names:
        shown = (f"{name} {json.dumps(before.get(name))} there and {json.dumps(now.get(name))} here" for name in names)
        return "with " + "; ".join(shown)
    if kept["features"] == told["features"]:
        return ""
    pairs = itertools.zip_longest(kept["features"], told["features"])
    place, (there, here) = next((place, pair) for place, pair in enumerate(pairs) if pair[0] != pair[1])
    return (
        f"of {len(kept['features'])} features where these are {len(told['features'])}, and feature number {place} is "
        f"{there or 'none'} there and {here or 'none'} here"
    )
