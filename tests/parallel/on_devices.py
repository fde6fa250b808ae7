"""Run as a script with eight devices that are pretended: dreams on a mesh, held against the same on one device.

python on_devices.py MODEL '[[dreams, population, children, "data:8"], ...]' prints a JSON list, an object per case.
"""

from __future__ import annotations

import json
import sys

import jax
import numpy as np

import epo_jax
from epo_jax.dream.chunks import CAPACITY
from epo_jax.parallel import make_mesh, replicated
from epo_jax.parallel.collectives import collectives

LENGTH = 5


def compare(lm: epo_jax.LanguageModel, dreams: int, population: int, children: int, mesh_text: str) -> dict:
    """Whether both give the same, and what travels between devices in an iteration."""
    config = epo_jax.EPOConfig(
        iterations=30, population=population, children=children, length=LENGTH, top_k=40, restart_every=7
    )
    names = [f"L{number % 3}.N{number}" for number in range(dreams)]
    mesh = make_mesh(mesh_text)
    one = epo_jax.dream(lm, names, config, seed=range(3, 3 + dreams), attribution=False, continuation=False)
    shared = epo_jax.dream(
        lm, names, config, seed=range(3, 3 + dreams), mesh=mesh, attribution=False, continuation=False
    )
    pairs = list(zip(one, shared, strict=True))

    algorithm = epo_jax.build(lm, [epo_jax.parse_feature(name, lm) for name in names], config, mesh=mesh)
    keys = jax.vmap(jax.random.key)(np.arange(dreams, dtype=np.uint32))
    state = algorithm.init(replicated(keys, mesh))
    compiled = algorithm.trace_advance(state, CAPACITY).lower().compile()
    events: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: events.append(event))
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state, _ = algorithm.advance(state, 1, CAPACITY)
    jax.monitoring.clear_event_listeners()
    sharing = algorithm.sharing
    return {
        "same_ids": all(np.array_equal(a.history.ids, b.history.ids) for a, b in pairs),
        "difference": max(float(np.abs(a.history.feature - b.history.feature).max()) for a, b in pairs),
        "scored": [len(b.history) for _, b in pairs],
        "told": [b.run.mesh for _, b in pairs],
        "compilations": events.count("/jax/core/compile/backend_compile_duration"),
        "collectives": [[one.kind, one.dtype, one.bytes] for one in collectives(compiled.as_text())],
        "places": sharing.devices * sharing.units * sharing.children_per_part,
    }


if __name__ == "__main__":
    model = epo_jax.load_model(sys.argv[1], dtype="float32")
    print(json.dumps([compare(model, *case) for case in json.loads(sys.argv[2])]))
