"""All methods, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from judging.dataset import dataset
from judging.drawn import random, samples
from judging.evolution import gcg, paper
from judging.task import Task
from judging.trace import Trace

Method = Callable[[Task], Trace]

METHODS: Mapping[str, Method] = {
    "paper": paper,
    "gcg": gcg,
    "random": random,
    "samples": samples,
    "dataset": dataset,
}
# Those that the settings of a search mean something to.
SEARCHES = ("paper", "gcg")
REFERENCE = "paper"
READS_CORPUS = ("dataset",)
