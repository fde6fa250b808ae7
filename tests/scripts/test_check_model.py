from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import commands
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_model.py"


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run([SCRIPT, *arguments], timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma2", "gpt_j"])
def test_a_model_agrees_with_its_original_at_every_site_of_every_layer(family, tmp_path, save_model):
    save_model(tmp_path, family)
    ran = check(f"--model={tmp_path}", "--tolerance=1e-4")
    assert ran.returncode == 0, ran.stderr
    for told in ("resid_pre", "mlp.hook_post", "attn.hook_pattern", "logits:", "token gradients of L2.N5", "agrees"):
        assert told in ran.stdout
    assert ("resid_mid" in ran.stdout) == (family != "gpt_j")
    assert "nan" not in ran.stdout


@pytest.mark.slow
def test_a_model_that_differs_is_told_with_what_differs_and_exit_code_1(tmp_path, save_model, monkeypatch):
    # A family that forgot a switch is imitated by two models: config.json says another activation than PyTorch runs.
    save_model(tmp_path, "llama")
    site = tmp_path / "site"
    site.mkdir()
    site.joinpath("sitecustomize.py").write_text(
        "from epo_jax.models import config\nimport jax\nconfig.ACTIVATIONS['silu'] = jax.nn.relu\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    # A new interpreter reads it while it starts.
    command = [sys.executable, SCRIPT, f"--model={tmp_path}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 1, ran.stderr
    assert "differs by more than 0.001 in" in ran.stdout
    assert "hook_post" in ran.stdout.rpartition("differs")[2]


@pytest.mark.slow
def test_what_cannot_be_compared_is_one_line_and_exit_code_2(tmp_path, save_model):
    save_model(tmp_path, "llama")
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "more": np.ones(3, np.float32)}, path)
    for model, told in ((f"random:{tmp_path / 'config.json'}", "random weights"), (str(tmp_path), "more")):
        ran = check(f"--model={model}")
        assert ran.returncode == 2
        assert ran.stderr.count("check_model: error:") == 1
        assert told in ran.stderr.splitlines()[-1]
        assert "Traceback" not in ran.stderr
