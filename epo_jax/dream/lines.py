"""Runs as the lines of pictures for papers, and held against a scan of a corpus."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from epo_jax.corpus import DatasetExamples, Scan
from epo_jax.corpus.against import FLUENT_BELOW, Comparison, compare
from epo_jax.dream.frontier import Frontier, frontier_rows, merged
from epo_jax.dream.history import History
from epo_jax.dream.result import load_result
from epo_jax.errors import EpoError
from epo_jax.models import load_tokenizer
from epo_jax.models.tokenizers import texts_by_id
from epo_jax.report.dataset_pages import Panel
from epo_jax.report.line import Line
from epo_jax.report.summary_figure import Bests

WAYS = ("overall", f"below {FLUENT_BELOW:g} nats/token", "at the dataset's own cross-entropy")
"""How `bests_of` compares."""


@dataclasses.dataclass(frozen=True)
class Against:
    """The dreams of a feature held against a scan: in numbers, and as a panel of a picture."""

    comparison: Comparison
    panel: Panel


def frontier_line(frontier: Frontier, name: str) -> Line:
    """A frontier with its prompts' texts."""
    return Line(name, frontier.cross_entropy, frontier.feature, frontier.tokens)


def evolution_lines(history: History, iterations: Sequence[int]) -> list[Line]:
    """The frontier of all prompts that were scored up to each iteration, in the order given.

    Raises:
        EpoError: an iteration that the run did not come to.
    """
    last = int(history.iteration.max(initial=0))
    lines = []
    for iteration in iterations:
        if not 0 <= iteration <= last:
            raise EpoError(f"--iterations={iteration}: the run has iterations 0 to {last}")
        scored = np.flatnonzero(history.iteration <= iteration)
        until = History(*(values[scored] for values in vars(history).values()))
        rows = frontier_rows(until)
        lines.append(Line(f"iteration {iteration}", until.cross_entropy[rows], until.feature[rows]))
    return lines


def examples_line(examples: DatasetExamples, tokenizer: PreTrainedTokenizerFast) -> Line:
    """Dataset examples as isolated prompts, with their texts; none where they were not scored so."""
    if examples.isolated_activation is None or examples.isolated_cross_entropy is None:
        return Line("dataset examples", np.zeros(0, np.float32), np.zeros(0, np.float32))
    text = texts_by_id(tokenizer, examples.ids)
    tokens = tuple(tuple(text[token] for token in ids) for ids in examples.ids.tolist())
    return Line("dataset examples", examples.isolated_cross_entropy, examples.isolated_activation, tokens)


def hold_against(scan: Scan, folders: Sequence[Path], flag: str) -> tuple[list[Against], list[str]]:
    """Hold the runs of folders against a scan, all runs of a feature together.

    Args:
        scan: of the same model and length.
        folders: run folders.
        flag: that gave them, for errors.

    Returns:
        For each feature what was found, in the order of layers and neurons, and the features that the scan lacks.

    Raises:
        EpoError: a folder that holds no run, runs that do not fit the scan, or none of whose features is in it.
    """
    frontiers: dict[str, list[Frontier]] = {}
    model, revision = "", None
    for folder in folders:
        result = load_result(folder)
        scan.check(result.run.model, result.frontier.ids.shape[1], f"--{flag}={folder}")
        frontiers.setdefault(result.run.feature, []).append(result.frontier)
        model, revision = result.run.model, result.run.revision
    known = sorted((feature for feature in frontiers if feature in scan.features), key=_by_numbers)
    if not known:
        raise EpoError(f"--{flag}={folders[0]}: none of the runs' features is in the scan {scan.folder}")
    tokenizer = load_tokenizer(model, revision)
    found = []
    for feature in known:
        examples, own = scan.examples(feature), frontiers[feature]
        best = merged(own)
        comparison = compare(examples, best.feature, best.cross_entropy)
        lines = [frontier_line(frontier, f"dream {number}") for number, frontier in enumerate(own, start=1)]
        line = examples_line(examples, tokenizer)
        panel = Panel(feature, lines, line, comparison.percentile_999, comparison.in_context)
        found.append(Against(comparison, panel))
    return found, sorted(set(frontiers) - set(known), key=_by_numbers)


def bests_of(comparison: Comparison) -> Bests:
    """A row of the picture that sums up comparisons, in the ways of `WAYS`."""
    one = comparison
    dream = (one.dream, one.dream_fluent, one.dream_at_dataset)
    return Bests(one.feature, dream, (one.dataset, one.dataset_fluent, one.dataset))


def _by_numbers(feature: str) -> list[tuple[int, str]]:
    # "L2.N10" before "L10.N2".
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", feature)]
