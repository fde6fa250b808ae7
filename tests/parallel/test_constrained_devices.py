"""Eight devices that are pretended do under constraints what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("constrained_on_devices.py")
# Dreams, population, children, mesh, constraints. Three slots: children are split, and two devices have nothing to do.
CASES = [
    [1, 3, 4, "data:8", {"retokenize": "reject", "ban_text": ["e", "dog!"], "freeze": [0, -1]}],
    [3, 2, 4, "data:3", {"ban_text": ["ss", "o"], "ban_pattern": "^[A-Z]"}],
]


@pytest.mark.slow
def test_a_mesh_gives_under_constraints_the_ids_of_one_device(tiny_folder):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), str(tiny_folder), json.dumps(CASES)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for (dreams, population, children, *_), found in zip(CASES, json.loads(ran.stdout), strict=True):
        assert found["same_ids"]
        assert found["difference"] < 1e-4
        assert len(found["scored"]) == dreams
        for scored in found["scored"]:
            assert population * (1 + 4 * children) < scored <= population * (1 + 5 * children)
