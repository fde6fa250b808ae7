"""Run as a script with eight devices that are pretended: weights shared over devices, held against one device.

python weights_on_devices.py MODEL '[["data:4,model:2", fsdp], ...]' ITERATIONS prints a JSON list, an object per case.
"""

from __future__ import annotations

import json
import re
import sys

import jax
import numpy as np

import epo_jax
from epo_jax.dream.chunks import CAPACITY
from epo_jax.models.continuing import continuations
from epo_jax.models.on_mesh import on_mesh, told_of
from epo_jax.parallel import make_mesh, replicated
from epo_jax.parallel.collectives import collectives

LENGTH = 5
NAMES = ["L0.N0", "L1.N1", "L2.N2"]
IDS = [[5, 9, 3, 250, 7, 11], [1, 2, 300, 4, 5, 6]]


def settings(iterations: int) -> epo_jax.EPOConfig:
    """Three slots and four children: neither divides by the devices."""
    return epo_jax.EPOConfig(iterations=iterations, population=3, children=4, length=LENGTH, top_k=40, restart_every=7)


def compare(name: str, mesh_text: str, fsdp: bool, iterations: int, one: list, plain: dict) -> dict:
    """What a mesh gives beside one device, and what travels in an iteration."""
    mesh = make_mesh(mesh_text)
    lm = epo_jax.load_model(name, dtype="float32", mesh=mesh, fsdp=fsdp)
    shared = epo_jax.dream(lm, NAMES, settings(iterations), seed=range(3, 6), attribution=False, continuation=False)
    pairs = list(zip(one, shared, strict=True))
    found = api(lm)
    features = [epo_jax.parse_feature(feature, lm) for feature in NAMES]
    algorithm = epo_jax.build(lm, features, settings(iterations))
    keys = jax.vmap(jax.random.key)(np.arange(len(NAMES), dtype=np.uint32))
    state = algorithm.init(replicated(keys, mesh))
    compiled = algorithm.trace_advance(state, CAPACITY).lower().compile()
    state, _ = algorithm.advance(state, 1, CAPACITY)
    events: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: events.append(event))
    with jax.transfer_guard("disallow"):
        state, _ = algorithm.advance(state, 1, CAPACITY)
    jax.monitoring.clear_event_listeners()
    return {
        "same_ids": all(np.array_equal(a.history.ids, b.history.ids) for a, b in pairs),
        "difference": max(
            float(np.abs(getattr(a.history, score) - getattr(b.history, score)).max())
            for a, b in pairs
            for score in ("feature", "cross_entropy")
        ),
        "api": {what: float(np.abs(found[what] - plain[what]).max()) for what in plain},
        "shapes": {what: found[what].shape == plain[what].shape for what in plain},
        "told": told_of(lm),
        "mesh": shared[0].run.mesh,
        "compilations": events.count("/jax/core/compile/backend_compile_duration"),
        "rows": lm.config.room_for_tokens,
        "parts": mesh.shape["model"],
        "width": lm.config.width,
        "whole_stacks": sorted(stacks_in(compiled.as_text(), lm)),
        "collectives": [
            [one.kind, list(one.axes(mesh)), list(one.shape), one.bytes, one.times(skip=1)]
            for one in collectives(compiled.as_text())
        ],
    }


def stacks_in(program: str, lm: epo_jax.LanguageModel) -> set[tuple[int, ...]]:
    """Shapes of all layers' matrices of one kind, put together from the devices of `data`, that a program has."""
    here = {tuple(int(size) for size in shape.split(",")) for shape in re.findall(r"\bf32\[([\d,]+)\]", program)}
    stacks = [
        leaf
        for leaf in jax.tree.leaves(lm.params)
        if leaf.ndim == 3 and "data" in jax.tree.leaves(tuple(leaf.sharding.spec))
    ]
    sizes = {axis: lm.mesh.shape[axis] for axis in ("data", "model")}
    return {
        shape
        for leaf in stacks
        if (
            shape := tuple(
                size // (sizes["model"] if "model" in jax.tree.leaves(axes) else 1)
                for size, axes in zip(leaf.shape, (*leaf.sharding.spec, None, None, None), strict=False)
            )
        )
        in here
    }


def api(lm: epo_jax.LanguageModel) -> dict[str, np.ndarray]:
    """What the functions of whole sequences give."""
    feature = epo_jax.parse_feature("L1.N52", lm)
    scores = epo_jax.score(lm, feature, IDS)
    return {
        "logits": np.asarray(epo_jax.logits(lm, IDS)),
        "feature": np.asarray(scores.feature),
        "cross_entropy": np.asarray(scores.cross_entropy),
        "token_gradients": np.asarray(epo_jax.token_gradients(lm, feature, IDS, 0.5)),
        "continuations": np.asarray(continuations(lm, IDS, 3, prefix_ids=[4])),
    }


def moved(lm: epo_jax.LanguageModel, mesh_text: str) -> bool:
    """Whether a model that lies on one device dreams on a mesh as it does there, and comes back whole."""
    there = on_mesh(lm, make_mesh(mesh_text))
    back = on_mesh(there, make_mesh("data:1"))
    return all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(lm.params), jax.tree.leaves(back.params), strict=True)
    )


if __name__ == "__main__":
    model, count = epo_jax.load_model(sys.argv[1], dtype="float32"), int(sys.argv[3])
    alone = epo_jax.dream(model, NAMES, settings(count), seed=range(3, 6), attribution=False, continuation=False)
    given = api(model)
    print(
        json.dumps(
            {
                "moved": moved(model, "data:2,model:3"),
                "cases": [compare(sys.argv[1], *case, count, alone, given) for case in json.loads(sys.argv[2])],
            }
        )
    )
