"""Run as a script with four devices that are pretended: a run begun on one device goes on on four, then on one.

python resumed_on_devices.py MODEL FOLDER prints a JSON object: where parts began, and how far values are apart.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np

import epo_jax
from epo_jax.dream import chunks
from epo_jax.parallel import make_mesh

# Three slots and four children: neither divides by the devices.
CONFIG = epo_jax.EPOConfig(iterations=12, population=3, children=4, length=5, top_k=40, restart_every=7)
MESHES = [None, "data:2,model:2", None]
ENDS = [4, 8, 12]


class BrokenOffError(Exception):
    """What a callback raises."""


def part(model: str, output: Path, mesh: str | None, end: int) -> tuple[int, epo_jax.Result | None]:
    """Dream on a mesh until an iteration; the first one that was made there, and the result at the end."""
    told: list[int] = []

    def callback(progress: epo_jax.Progress) -> None:
        told.append(progress.iteration)
        if progress.iteration == end < CONFIG.iterations:
            raise BrokenOffError

    lm = epo_jax.load_model(model, dtype="float32", mesh=None if mesh is None else make_mesh(mesh))
    try:
        made = epo_jax.dream(
            lm,
            "L1.N5",
            CONFIG,
            seed=4,
            output=output,
            resume=True,
            report=False,
            attribution=False,
            continuation=False,
            callback=callback,
        )
    except BrokenOffError:
        return told[0], None
    return told[0], made


def main(model: str, folder: Path) -> None:
    """Compare a run in three parts with one that was never broken off."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    chunks.Pace.steps = property(lambda _: 1)
    whole = epo_jax.dream(
        epo_jax.load_model(model, dtype="float32"), "L1.N5", CONFIG, seed=4, attribution=False, continuation=False
    )
    parts = [part(model, folder, mesh, end) for mesh, end in zip(MESHES, ENDS, strict=True)]
    made = parts[-1][1]
    assert made is not None
    pairs = [(getattr(made.history, name), getattr(whole.history, name)) for name in ("feature", "cross_entropy")]
    print(
        json.dumps(
            {
                "begun": [first for first, _ in parts],
                "same_ids": bool(np.array_equal(made.history.ids, whole.history.ids)),
                "same_iterations": bool(np.array_equal(made.history.iteration, whole.history.iteration)),
                "difference": max(float(np.abs(one - other).max()) for one, other in pairs),
                "mesh": made.run.mesh,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
