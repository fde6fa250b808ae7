"""All methods, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from judging.dataset import dataset
from judging.drawn import random, samples
from judging.evolution import best, gcg, paper
from judging.gbda import gbda
from judging.pez import pez
from judging.task import Task
from judging.trace import Trace

Method = Callable[[Task], Trace]

METHODS: Mapping[str, Method] = {
    "paper": paper,
    "best": best,
    "gcg": gcg,
    "random": random,
    "samples": samples,
    "dataset": dataset,
    "pez": pez,
    "gbda": gbda,
}
# Those that the settings of a search mean something to.
SEARCHES = ("paper", "best", "gcg")
REFERENCE = "paper"
READS_CORPUS = ("dataset",)
