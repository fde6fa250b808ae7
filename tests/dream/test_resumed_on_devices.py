"""A run goes on where there are other devices."""

from __future__ import annotations

import json
from pathlib import Path

import commands
import pytest

SCRIPT = Path(__file__).with_name("resumed_on_devices.py")


@pytest.mark.slow
def test_a_run_begun_on_one_device_goes_on_on_four_and_back_with_the_same_ids_and_says_so(tiny_folder, tmp_path):
    ran = commands.run([SCRIPT, tiny_folder, tmp_path / "run"], devices=4, timeout=600)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["begun"] == [1, 5, 9]
    assert found["same_ids"]
    assert found["same_iterations"]
    assert found["difference"] < 1e-4
    assert "after iteration 4 with mesh none (now data:2,model:2)" in ran.stderr
    assert "after iteration 8 with mesh data:2,model:2 (now none)" in ran.stderr
