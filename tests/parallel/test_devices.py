"""Eight devices that are pretended do what one does."""

from __future__ import annotations

import json
from pathlib import Path

import commands
import pytest

SCRIPT = Path(__file__).with_name("on_devices.py")
LENGTH = 5
# Dreams, population, children, mesh. Three slots: children are split, and two devices have nothing to do. Fifteen: one
# device has a single slot.
FAST = [[1, 3, 4, "data:8"], [3, 5, 4, "data:8"]]
SLOW = [[1, 8, 4, "data:8"], [1, 1, 20, "data:8"], [1, 8, 4, "data:3"], [2, 1, 3, "data:8"]]


def run(model: Path, cases: list) -> list[dict]:
    ran = commands.run([SCRIPT, model, json.dumps(cases)], devices=8, timeout=1200)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def check_same(case: list, found: dict) -> None:
    dreams, population, children, mesh = case
    assert found["same_ids"]
    assert found["difference"] < 1e-4
    assert found["scored"] == [population * (1 + 30 * children)] * dreams
    assert found["told"] == [mesh] * dreams


@pytest.fixture(scope="module")
def fast(tiny_folder: Path) -> list[dict]:
    return run(tiny_folder, FAST)


@pytest.mark.parametrize("number", range(len(FAST)), ids=lambda number: str(FAST[number]))
def test_a_mesh_gives_the_ids_of_one_device_where_its_size_divides_nothing(fast, number):
    check_same(FAST[number], fast[number])


@pytest.mark.parametrize("number", range(len(FAST)), ids=lambda number: str(FAST[number]))
def test_only_ids_and_scores_travel_between_devices(fast, number):
    found = fast[number]
    moved = found["collectives"]
    assert {name for name, _, _ in moved} == {"all-gather"}
    places = found["places"]
    assert sum(size for _, _, size in moved) == places * (4 * LENGTH + 4 + 4)
    by_dtype = {kind: sum(size for _, dtype, size in moved if dtype == kind) for kind in ("s32", "f32")}
    assert by_dtype == {"s32": places * 4 * LENGTH, "f32": places * 8}


def test_the_program_that_is_analysed_is_the_one_that_runs_on_the_mesh_and_nothing_is_moved_unasked(fast):
    # The script advances under the transfer guard, after it compiled the program as `dream.memory` does.
    assert [found["compilations"] for found in fast] == [0, 0]


@pytest.mark.slow
def test_meshes_of_other_sizes_give_the_ids_of_one_device(tiny_folder):
    for case, found in zip(SLOW, run(tiny_folder, SLOW), strict=True):
        check_same(case, found)
