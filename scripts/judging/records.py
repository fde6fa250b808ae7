"""The runs that are done: a line of JSON for each."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

import epo_jax
from epo_jax.constraints import Survival
from epo_jax.dream.versions import versions
from epo_jax.epo.lengths import bare
from epo_jax.errors import EpoError, one_line
from epo_jax.scoring.scale import Scale
from judging.measures import Measures, curve, frontier, measure
from judging.trace import Trace

# Settings: runs that differ in them are not held against one another.
SIZES = ("iterations", "population", "children", "length", "budget")


@dataclasses.dataclass(frozen=True)
class Run:
    """What makes a run the one that it is.

    Attributes:
        model: its source.
        method: the method's name, or the label of a variant of it.
        feature: feature string.
        seed: of all randomness.
        settings: sizes, and what else the method depends on, as JSON values.
    """

    model: str
    method: str
    feature: str
    seed: int
    settings: dict[str, Any]

    @property
    def slug(self) -> str:
        """A file's name: two features that differ in signs alone are told apart by a checksum."""
        plain = re.sub(r"[^A-Za-z0-9.]+", "_", self.feature).strip("_")
        return f"{plain}-{zlib.crc32(self.feature.encode()):08x}-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Record:
    """A run that is done.

    Attributes:
        run: which.
        scale: of its feature.
        measures: in numbers.
        curve: [rows, hypervolume] at equal steps up to the budget.
        frontier: prompts that no other one beats, the most fluent first: text, z, cross_entropy.
        about: versions, device, and the search's whole settings.
    """

    run: Run
    scale: Scale
    measures: Measures
    curve: list[tuple[int, float]]
    frontier: list[dict[str, Any]]
    about: dict[str, Any]

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """int64[n], the curve's."""
        return np.array([rows for rows, _ in self.curve], np.int64)

    @property
    def reached(self) -> Float64[np.ndarray, " n"]:
        """float64[n], the hypervolume that the curve has at each."""
        return np.array([value for _, value in self.curve], np.float64)

    def to_line(self) -> str:
        """A line of JSON."""
        rest = dataclasses.asdict(self)
        return json.dumps({**rest.pop("run"), **rest}, allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Record:
        """What `to_line` gave.

        Raises:
            ValueError: it is no such line; KeyError and TypeError, likewise.
        """
        values = json.loads(line)
        return cls(
            run=Run(**{field.name: values[field.name] for field in dataclasses.fields(Run)}),
            scale=Scale(**values["scale"]),
            measures=Measures(**values["measures"]),
            curve=[(int(rows), float(value)) for rows, value in values["curve"]],
            frontier=values["frontier"],
            about=values["about"],
        )


def record_of(
    run: Run, trace: Trace, scale: Scale, lm: epo_jax.LanguageModel, config: epo_jax.EPOConfig, prefix: Sequence[int]
) -> Record:
    """What is kept of a search.

    Args:
        run: which; its settings have the budget.
        trace: what was scored.
        scale: of the feature.
        lm: the model.
        config: that the method was given.
        prefix: tokens before every prompt.
    """
    z = scale.of(trace.feature)
    prompts = [
        {
            "text": lm.tokenizer.decode(bare(trace.ids[row]).tolist(), clean_up_tokenization_spaces=False),
            "z": round(float(z[row]), 4),
            "cross_entropy": round(float(trace.cross_entropy[row]), 4),
        }
        for row in frontier(z, trace.cross_entropy)
    ]
    rows, reached = curve(trace, scale, run.settings["budget"])
    return Record(
        run=run,
        scale=scale,
        measures=measure(trace, scale, Survival(lm.tokenizer, prefix)),
        curve=[(int(at), round(float(value), 5)) for at, value in zip(rows, reached, strict=True)],
        frontier=prompts,
        about={"config": config.to_json(), "options": _options_of(config), "versions": versions()},
    )


def _options_of(config: epo_jax.EPOConfig) -> dict[str, Any] | None:
    """What a search's defaults were when it ran."""
    return None if config.options is None else dataclasses.asdict(config.options)


def read_records(path: Path) -> list[Record]:
    """All records of a file; none where there is no file.

    Raises:
        EpoError: a line that is no record.
    """
    if not path.exists():
        return []
    records = []
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                records.append(Record.from_line(line))
            except (ValueError, KeyError, TypeError) as error:
                where = f"--output={path.parent}: line {number} of {path.name}"
                raise EpoError(f"{where}: no run ({one_line(error)})") from error
    return records


def add_record(path: Path, record: Record) -> None:
    """Append a record, in one piece and on the disk, so that several programs may add to one file.

    Raises:
        OSError: it cannot be written.
    """
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, record.to_line().encode())
        os.fsync(file)
    finally:
        os.close(file)


def check_settings(records: Iterable[Record], model: str, method: str, settings: dict[str, Any]) -> None:
    """Check that a method's name does not stand for two things in one table.

    Args:
        records: of the table.
        model: its source.
        method: the method's name, or a variant's label.
        settings: that it is to be run with.

    Raises:
        EpoError: there are runs of this name and these sizes with other settings.
    """
    sizes = {name: settings[name] for name in SIZES}
    for one in records:
        other = one.run.settings
        same = (one.run.model, one.run.method) == (model, method) and sizes.items() <= other.items()
        if same and other != settings:
            raise EpoError(
                f"--output: has runs of {method} with {_told(other)}, and these are to be with {_told(settings)}; give "
                "another --output, or a variant another --label"
            )


def _told(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items() if name not in SIZES) or "no options"
