"""Hits scored again as the prompts that they would be by themselves: the T tokens that end at each, as a dream is."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32

from epo_jax.corpus import files
from epo_jax.corpus.groups import Group
from epo_jax.corpus.programs import score_isolated
from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
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
    found = files.load(folder)
    if found is None or not found[1]["done"]:
        raise EpoError(f"--output={folder}: holds no finished scan")
    hits, counts = found
    settings = files.settings_of(folder)
    names = [name for _, group in groups for name in group]
    rows = _rows(names, features, folder)
    window = np.concatenate([group.window.reshape(-1, group.window.shape[-1]) for group in hits])[rows]
    position = np.concatenate([group.position.reshape(-1, group.position.shape[-1]) for group in hits])[rows]
    there = window >= 0
    context = settings["context"]
    places, inverse = np.unique(window[there].astype(np.int64) * context + position[there], return_inverse=True)
    owner = np.broadcast_to(np.asarray(rows)[:, None], window.shape)[there]
    reader = files.WindowReader(folder, counts["windows"])
    ids = reader.isolated(places // context, places % context, settings["length"])
    activation, cross_entropy = _scored(
        lm, [group for group, _ in groups], settings, ids, inverse, owner, batch, callback
    )
    full = [np.full(window.shape, np.nan, np.float32) for _ in range(2)]
    full[0][there], full[1][there] = activation, cross_entropy[inverse]
    kept = files.isolated_of(folder)
    others = ~np.isin(kept[0], rows)
    both: list[np.ndarray] = [np.asarray(rows, np.int64), *full]
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
    settings: dict[str, object],
    ids: Int32[np.ndarray, "N T"],
    inverse: np.ndarray,
    owner: np.ndarray,
    batch: int,
    callback: Callable[[int, int], None] | None,
) -> tuple[Float32[np.ndarray, " hits"], Float32[np.ndarray, " N"]]:
    """Each hit's activation, and each prompt's cross-entropy."""
    prefix = jnp.asarray(settings["prefix"], jnp.int32)
    activation = np.zeros(len(owner), np.float32)
    cross_entropy = np.zeros(len(ids), np.float32)
    # Hits in the order of their prompts, so that those of a batch are neighbours.
    order = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[order], np.arange(0, len(ids) + batch, batch))
    for number, start in enumerate(range(0, len(ids), batch)):
        part = ids[start : start + batch]
        filled = np.pad(part, ((0, batch - len(part)), (0, 0)), mode="edge")
        values, nats = jax.device_get(score_isolated(lm.graphdef, lm.params, groups, prefix, jnp.asarray(filled)))
        own = order[bounds[number] : bounds[number + 1]]
        activation[own] = values[inverse[own] - start, owner[own]]
        cross_entropy[start : start + len(part)] = nats[: len(part)]
        if callback is not None:
            callback(start + len(part), len(ids))
    return activation, cross_entropy
