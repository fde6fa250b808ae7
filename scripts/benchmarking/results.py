"""What was measured, as plain data."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

CEILING = "matrix product"
PLAIN = "plain evaluation"
SUFFIX = "suffix-only evaluation"
GRADIENTS = "gradients"
ITERATION = "iteration"
DREAMY = "dreamy, iteration"
NANOGCG = "nanoGCG, step"


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and extremes."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: tuple[float, ...]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclasses.dataclass(frozen=True)
class Sample:
    """One measurement.

    Attributes:
        seconds: of one call.
        operations: floating-point operations that it needed; None where they are not counted.
    """

    seconds: float
    operations: float | None = None


@dataclasses.dataclass(frozen=True)
class Line:
    """One thing that was measured again and again.

    Attributes:
        name: what it is.
        samples: measurements, one for each round.
        candidates: prompts that one call scores; 0 where it scores none.
        compile_seconds: from Python to a program for the device.
        memory: bytes of the program beyond its inputs, the weights among them.
        dreams: searches that one call advances; 0 where it is no iteration.
        note: what else should be known.
    """

    name: str
    samples: tuple[Sample, ...]
    candidates: int = 0
    compile_seconds: float | None = None
    memory: int | None = None
    dreams: int = 0
    note: str = ""

    @property
    def seconds(self) -> Spread:
        """Of one call."""
        return Spread.of(tuple(sample.seconds for sample in self.samples))

    @property
    def rate(self) -> Spread | None:
        """Operations in a second; None where they are not counted."""
        rates = [sample.operations / sample.seconds for sample in self.samples if sample.operations is not None]
        return Spread.of(tuple(rates)) if rates else None

    @property
    def operations(self) -> float | None:
        """Of one call, the median."""
        counts = [sample.operations for sample in self.samples if sample.operations is not None]
        return statistics.median(counts) if counts else None

    def times_as_fast_as(self, other: Line) -> Spread:
        """How much faster it was in each round, when both met the machine in the same mood."""
        pairs = zip(self.samples, other.samples, strict=True)
        return Spread.of(tuple(theirs.seconds / mine.seconds for mine, theirs in pairs))


@dataclasses.dataclass(frozen=True)
class Difference:
    """The greatest difference of scores that two ways give the same prompts.

    Attributes:
        cross_entropy: in nats/token.
        feature: relative to the greatest feature.
    """

    cross_entropy: float
    feature: float


@dataclasses.dataclass(frozen=True)
class Section:
    """Everything that took turns in one set of rounds.

    Attributes:
        feature: feature string.
        lines: what was measured, the ceiling among it.
        floor: operations of an iteration with the expected number of rows.
        expected_rows: rows of one candidate, expected, through the blocks and through the head.
        differences: of numbers that should be the same, by what was compared with what.
        peers: what the peers said of themselves, by name.
    """

    feature: str
    lines: tuple[Line, ...]
    floor: float
    expected_rows: tuple[float, float]
    differences: dict[str, Difference] = dataclasses.field(default_factory=dict)
    peers: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def line(self, name: str) -> Line | None:
        """The line of a name; None where it was not measured."""
        return next((line for line in self.lines if line.name == name), None)

    @property
    def ceiling(self) -> Line:
        """The matrix product."""
        return next(line for line in self.lines if line.name == CEILING)

    def share(self, line: Line) -> float | None:
        """A line's rate against the ceiling's; None where operations are not counted."""
        mine, ceiling = line.rate, self.ceiling.rate
        return mine.median / ceiling.median if mine and ceiling else None


@dataclasses.dataclass(frozen=True)
class Report:
    """A run of the benchmark.

    Attributes:
        settings: what was asked for.
        environment: versions, device, model shape.
        sections: one for each feature.
    """

    settings: dict[str, object]
    environment: dict[str, object]
    sections: tuple[Section, ...]
