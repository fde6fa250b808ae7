"""Eight devices that are pretended do what one does, under constraints and in guided searches."""

from __future__ import annotations

import json
from pathlib import Path

import commands
import pytest

SCRIPT = Path(__file__).with_name("constrained_on_devices.py")
# Dreams, population, children, mesh, constraints. Three slots: children are split, and two devices have nothing to do.
CASES = [
    [1, 3, 4, "data:8", {"retokenize": "reject", "ban_text": ["e", "dog!"], "freeze": [0, -1]}],
    [3, 2, 4, "data:3", {"ban_text": ["ss", "o"], "ban_pattern": "^[A-Z]"}],
]

# Operators know nothing of devices; three compile in half the time of all.
THREE = {"search": "best", "operators": "model_swap,gradient_swap,crossover"}
FEW = {**THREE, "beam": False, "model_starts": 10, "random_starts": 6}
GUIDED = [
    [1, 3, 4, "data:8", {}, {**THREE, "momentum": 0.5}],
    [
        1,
        3,
        4,
        "data:8",
        {"retokenize": "reject", "freeze": [0, -1]},
        {**FEW, "archive": False, "beginnings": 1, "momentum": 0.5},
    ],
]


@pytest.mark.slow
def test_a_mesh_gives_under_constraints_the_ids_of_one_device(tiny_folder):
    for (dreams, population, children, *_), found in zip(CASES, run(tiny_folder, CASES), strict=True):
        assert found["same_ids"]
        assert found["difference"] < 1e-4
        assert len(found["scored"]) == dreams
        for scored in found["scored"]:
            assert population * (1 + 4 * children) < scored <= population * (1 + 5 * children)


@pytest.mark.slow
def test_a_mesh_gives_in_a_guided_search_the_ids_of_one_device(tiny_folder):
    for (dreams, population, children, *_), found in zip(GUIDED, run(tiny_folder, GUIDED), strict=True):
        assert found["same_ids"]
        assert found["difference"] < 1e-4
        assert len(found["scored"]) == dreams
        for scored in found["scored"]:
            assert population * (1 + 3 * children) < scored <= population * (2 + 5 * children)


def run(model: Path, cases: list) -> list[dict]:
    ran = commands.run([SCRIPT, model, json.dumps(cases)], devices=8, timeout=600)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
