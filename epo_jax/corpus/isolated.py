"""Hits scored again as the prompts that they would be by themselves: the T tokens that end at each, as a dream is."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from epo_jax.corpus import files
from epo_jax.corpus.groups import Group
from epo_jax.corpus.programs import score_isolated
from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.parallel import processes
from epo_jax.parallel.placing import fetched, on_devices
from epo_jax.whole_files import write_whole


def rescore(
    lm: LanguageModel,
    groups: Sequence[tuple[Group, Sequence[str]]],
    folder: str | Path,
    features: Sequence[str] | None = None,
    *,
    batch: int = 128,
    callback: Callable[[int, int], None] | None = None,
) -> None:
    """Score the hits of a finished scan as prompts of T tokens, and keep that in its folder.

    A position that several features keep is run once. Hits that were scored before are scored
    again, and those of other features stay.

    Args:
        lm: the model of the scan.
        groups: its features, as `scan` took them.
        folder: the scan's.
        features: feature strings whose hits are scored; by default all.
        batch: prompts that are run at a time.
        callback: is told how many prompts were run, and of how many.

    Raises:
        EpoError: no finished scan of these features there, or a feature that it does not have.
    """
    folder = Path(folder)
    names = [name for _, group in groups for name in group]
    work = processes.shared(lambda: _work(folder, names, features), "isolated")
    activation, cross_entropy = _scored(lm, [group for group, _ in groups], work, batch, callback)
    full = [np.full(work.there.shape, np.nan, np.float32) for _ in range(2)]
    full[0][work.there], full[1][work.there] = activation, cross_entropy[work.prompt]
    processes.on_writer(lambda: _write(folder, work.rows, *full), "isolated")


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is to be scored.

    Attributes:
        rows: int64[n], of features in the scan.
        there: bool[n, K], which of their hits there are; H in all.
        ids: int32[N, T], the different prompts.
        prompt: int64[H], which of them each hit is.
        owner: int64[H], the row of each hit's feature.
        prefix: tokens before each prompt.
    """

    rows: Int64[np.ndarray, " n"]
    there: Bool[np.ndarray, "n K"]
    ids: Int32[np.ndarray, "N T"]
    prompt: Int64[np.ndarray, " H"]
    owner: Int64[np.ndarray, " H"]
    prefix: list[int]


def _work(folder: Path, names: Sequence[str], features: Sequence[str] | None) -> _Work:
    found = files.load(folder)
    if found is None or not found[1]["done"]:
        raise EpoError(f"--output={folder}: holds no finished scan")
    hits, counts = found
    settings = files.settings_of(folder)
    rows = np.asarray(_rows(names, features, folder), np.int64)
    window = np.concatenate([group.window.reshape(-1, group.window.shape[-1]) for group in hits])[rows]
    position = np.concatenate([group.position.reshape(-1, group.position.shape[-1]) for group in hits])[rows]
    there = window >= 0
    context = settings["context"]
    places, prompt = np.unique(window[there].astype(np.int64) * context + position[there], return_inverse=True)
    owner = np.broadcast_to(rows[:, None], window.shape)[there]
    reader = files.WindowReader(folder, counts["windows"])
    ids = reader.isolated(places // context, places % context, settings["length"])
    return _Work(rows, there, ids, prompt, owner, settings["prefix"])


def _write(folder: Path, rows: Int64[np.ndarray, " n"], activation: np.ndarray, cross_entropy: np.ndarray) -> None:
    kept = files.isolated_of(folder)
    others = ~np.isin(kept[0], rows)
    both: list[np.ndarray] = [rows, activation, cross_entropy]
    if others.any():
        both = [np.concatenate([old[others], new]) for old, new in zip(kept, both, strict=True)]
    file = io.BytesIO()
    np.savez(file, rows=both[0], activation=both[1], cross_entropy=both[2])
    write_whole(folder / files.ISOLATED, file.getvalue())


def _rows(names: Sequence[str], features: Sequence[str] | None, folder: Path) -> list[int]:
    if features is None:
        return list(range(len(names)))
    place = {name: row for row, name in enumerate(names)}
    for name in features:
        if name not in place:
            raise EpoError(f"--isolated={name}: is none of the features of the scan in {folder}")
    return sorted({place[name] for name in features})


def _scored(
    lm: LanguageModel,
    groups: Sequence[Group],
    work: _Work,
    batch: int,
    callback: Callable[[int, int], None] | None,
) -> tuple[Float32[np.ndarray, " H"], Float32[np.ndarray, " N"]]:
    """Each hit's activation, and each prompt's cross-entropy."""
    groups, prefix = on_devices(lm.mesh, (list(groups), np.asarray(work.prefix, np.int32)))
    activation = np.zeros(len(work.owner), np.float32)
    cross_entropy = np.zeros(len(work.ids), np.float32)
    # Hits in the order of their prompts, so that those of a batch are neighbours.
    order = np.argsort(work.prompt, kind="stable")
    bounds = np.searchsorted(work.prompt[order], np.arange(0, len(work.ids) + batch, batch))
    for number, start in enumerate(range(0, len(work.ids), batch)):
        part = work.ids[start : start + batch]
        filled = on_devices(lm.mesh, np.pad(part, ((0, batch - len(part)), (0, 0)), mode="edge"))
        values, nats = fetched(score_isolated(lm.graphdef, lm.params, groups, prefix, filled))
        own = order[bounds[number] : bounds[number + 1]]
        activation[own] = values[work.prompt[own] - start, work.owner[own]]
        cross_entropy[start : start + len(part)] = nats[: len(part)]
        if callback is not None:
            callback(start + len(part), len(work.ids))
    return activation, cross_entropy
