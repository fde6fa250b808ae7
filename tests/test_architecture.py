from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "epo_jax"
# From left to right; a part may import those before it and itself.
LINE = (
    *("advice", "errors", "command_line", "compilation_cache", "whole_files", "hull", "axes", "config", "parallel"),
    *("epo", "models", "constraints", "autoencoders", "features", "scoring", "attribution", "corpus", "report"),
    *("dream", "planning", "sweep"),
)
# The search knows no language model, and a report knows plain data.
APART = {"epo": {"errors", "axes", "config", "parallel"}, "report": {"errors", "hull"}}


def imported(path: Path) -> set[str]:
    """Parts of epo_jax that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("epo_jax."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "epo_jax":
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(a.name.split(".")[1] for a in node.names if a.name.startswith("epo_jax."))
    return names


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    assert part in LINE, f"{part} has no place on the line"
    before = set(LINE[: LINE.index(part)]) if part not in APART else APART[part]
    assert imported(path) <= before | {part}


@pytest.mark.parametrize("path", sorted([*PACKAGE.rglob("*.py"), *ROOT.glob("scripts/*.py")]), ids=lambda p: p.name)
def test_files_hold_one_job(path):
    assert len(path.read_text().splitlines()) <= 330


ORDERS = (
    "import epo_jax; import epo_jax.dream; assert callable(epo_jax.dream)",
    "import epo_jax.dream; assert callable(epo_jax.dream)",
    "from epo_jax.dream import dream; import epo_jax; assert epo_jax.dream is dream",
    "import epo_jax.dream.frontier; import epo_jax; assert callable(epo_jax.dream)",
    "import epo_jax.dream as d; assert callable(d)",
)
# So that each is the first import, in one process that has JAX already.
ANEW = "import sys; [sys.modules.pop(name) for name in list(sys.modules) if name.partition('.')[0] == 'epo_jax']"


def test_the_name_dream_is_the_function_in_any_order_of_imports():
    subprocess.run([sys.executable, "-c", "\n".join(f"{ANEW}\n{code}" for code in ORDERS)], check=True, timeout=120)


def test_torch_is_not_needed():
    code = "import sys; sys.modules['torch'] = None; import epo_jax; assert callable(epo_jax.load_model)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
