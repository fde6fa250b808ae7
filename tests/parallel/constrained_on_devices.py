"""Run as a script with eight devices that are pretended: constrained or guided dreams on a mesh, against one device.

python constrained_on_devices.py MODEL '[[dreams, population, children, "data:8", {constraints}, {settings}], ...]'
prints a JSON list, an object per case.
"""

from __future__ import annotations

import json
import sys

import jax
import numpy as np

import epo_jax
from epo_jax.dream import loop
from epo_jax.parallel import make_mesh

TEXT = " a dog runs"


def compare(
    lm: epo_jax.LanguageModel,
    dreams: int,
    population: int,
    children: int,
    mesh_text: str,
    asked: dict,
    settings: dict | None = None,
) -> dict:
    """Whether both give the same."""
    frozen = "freeze" in asked
    length = len(lm.tokenizer.encode(TEXT, add_special_tokens=False)) if frozen else 5
    config = epo_jax.EPOConfig(
        iterations=5,
        population=population,
        children=children,
        length=length,
        top_k=40,
        restart_every=3,
        **(settings or {}),
    )
    names = [f"L{number % 3}.N{number}" for number in range(dreams)]
    options = {
        "seed": range(3, 3 + dreams),
        "constraints": epo_jax.Constraints.from_json(asked),
        "template": epo_jax.Template(prefix="The", suffix="!", bos="always"),
        "init_text": TEXT if frozen else None,
        "attribution": False,
        "continuation": False,
    }
    one = epo_jax.dream(lm, names, config, **options)
    search = loop.searched

    def guarded(*arguments: object) -> object:
        with jax.transfer_guard("disallow"):
            return search(*arguments)

    loop.searched = guarded
    shared = epo_jax.dream(lm, names, config, mesh=make_mesh(mesh_text), **options)
    loop.searched = search
    pairs = list(zip(one, shared, strict=True))
    return {
        "same_ids": all(np.array_equal(a.history.ids, b.history.ids) for a, b in pairs),
        "difference": max(float(np.abs(a.history.feature - b.history.feature).max()) for a, b in pairs),
        "scored": [len(b.history) for _, b in pairs],
    }


if __name__ == "__main__":
    model = epo_jax.load_model(sys.argv[1], dtype="float32")
    print(json.dumps([compare(model, *case) for case in json.loads(sys.argv[2])]))
