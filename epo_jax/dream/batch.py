"""Several dreams asked for at once: which features with which seeds, and in which folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epo_jax.dream.folders import check_folder
from epo_jax.errors import EpoError
from epo_jax.features import Feature

LONGEST_NAME = 80


def pairs(
    feature: Feature | str | Sequence[Feature | str], seed: int | Sequence[int]
) -> list[tuple[Feature | str, int]]:
    """Each dream's feature and seed: lists go together one by one, and what is single is for all.

    Raises:
        EpoError: lists of different lengths, an empty one, or a seed that cannot be used.
    """
    features, seeds = _listed(feature), _listed(seed)
    if features is not None and seeds is not None and len(features) != len(seeds):
        raise EpoError(
            f"--seed: {len(seeds)} seeds for {len(features)} features; lists must be of one length, or one of the two "
            "single"
        )
    count = len(features) if features is not None else len(seeds) if seeds is not None else 1
    if count == 0:
        raise EpoError(f"--{'seed' if features is None else 'feature'}: none given")
    every = zip(features or [feature] * count, seeds or [seed] * count, strict=True)
    return [(one, _checked_seed(number)) for one, number in every]


def is_several(feature: object, seed: object) -> bool:
    """Whether several dreams are asked for, be it a list of one."""
    return _listed(feature) is not None or _listed(seed) is not None


def folder_names(dreams: Sequence[tuple[str, int]]) -> list[str]:
    """A folder name for each feature and seed, without characters that a file system may not like, all different."""
    seeds_differ = len({seed for _, seed in dreams}) > 1
    names: list[str] = []
    taken: set[str] = set()
    for feature, seed in dreams:
        wanted = safe_name(feature) + (f"-seed{seed}" if seeds_differ else "")
        name, number = wanted, 2
        # Some file systems take upper and lower case for the same.
        while name.casefold() in taken:
            name, number = f"{wanted}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def safe_name(text: str) -> str:
    """A text as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:LONGEST_NAME].rstrip("-.") or "feature"


def run_folders(output: str | Path | None, dreams: Sequence[tuple[str, int]] | None, overwrite: bool) -> list[Path]:
    """Check, without making anything, that run folders may be written, and return them, one for each dream.

    Args:
        output: the folder of the one dream, or the one that holds those of several; None for none.
        dreams: each one's feature and seed; None for a dream that is no list.
        overwrite: whether folders may hold something.

    Raises:
        EpoError: as `check_folder`, of one of them.
    """
    if output is None:
        return []
    above = check_folder(output, overwrite)
    return [above] if dreams is None else [check_folder(above / name, overwrite) for name in folder_names(dreams)]


def _listed(value: Any) -> list[Any] | None:
    return list(value) if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str) else None


def _checked_seed(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise EpoError(f"--seed={seed}: must be a whole number from 0 to {2**32 - 1}")
    return int(seed)
