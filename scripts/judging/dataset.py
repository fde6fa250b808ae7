"""What a corpus has: as many of its tokens as the budget allows are read, and the best hits scored as prompts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

import epo_jax
from epo_jax.corpus import Document, ScanConfig, load_scan, others_of, read_documents, scan
from epo_jax.errors import EpoError
from judging.scoring import BATCH, score_whole, trace_whole
from judging.task import Task
from judging.trace import Trace

# Hits that are scored as prompts, and the share of the budget that they may take.
HITS, SHARE = 256, 0.25
# Tokens of a window. A window keeps one hit at most, and its last T - 1 tokens are read again in the next.
CONTEXT = 128
# Windows that are run at a time.
WINDOWS = 8
# Characters of a piece of the corpus.
PIECE = 2000


def dataset(task: Task) -> Trace:
    """The strongest hits of a random part of the corpus, which seed and budget choose, strongest in context first.

    Nothing is known before all is read, so that the first prompt's rows are nearly all of the budget.

    Raises:
        EpoError: no corpus, or one without text.
    """
    if task.corpus is None:
        raise EpoError("--corpus: none given, and the method dataset reads one; name a file or folder of text")
    feature, length = epo_jax.parse_feature(task.feature, task.lm), task.config.length
    score_whole(task.lm, feature, np.zeros((1, length), np.int32))
    documents = shuffled(read_documents(str(task.corpus)), task.seed)
    keep = max(1, min(HITS, int(SHARE * task.budget) // length))
    with tempfile.TemporaryDirectory() as folder:
        # Compiled before the clock runs.
        _hits(task, feature, documents, Path(folder) / "compiled", keep, 1)
        began = time.perf_counter()
        hits, spent = _hits(task, feature, documents, Path(folder) / "scan", keep, task.budget - keep * length)
    parts = []
    for start in range(0, len(hits), BATCH):
        batch = hits[start : start + BATCH]
        parts.append(trace_whole(task.lm, feature, batch, spent + start * length, began))
    return Trace.joined(parts).until(task.budget)


def shuffled(documents: Iterator[Document], seed: int) -> list[Document]:
    """The corpus in pieces of some thousand characters, in an order that a seed draws: a book is not one draw."""
    pieces = [piece for document in documents for piece in _pieces(document)]
    return [pieces[place] for place in np.random.default_rng(seed).permutation(len(pieces))]


def _pieces(document: Document) -> Iterator[Document]:
    lines, characters, start = [], 0, 0
    for line in document.text.splitlines(keepends=True):
        lines.append(line)
        characters += len(line)
        if characters - start >= PIECE:
            yield Document(f"{document.name}@{start}", "".join(lines))
            lines, start = [], characters
    if lines:
        yield Document(f"{document.name}@{start}", "".join(lines))


def _hits(
    task: Task, feature: epo_jax.Feature, documents: Sequence[Document], folder: Path, keep: int, rows: int
) -> tuple[Int32[np.ndarray, "n T"], int]:
    """The hits as prompts, strongest in context first, and the rows that reading took, about so many."""
    length = task.config.length
    context = max(length, min(CONTEXT, task.lm.config.max_positions - 1))
    # A scan counts each token once, and ends with a whole batch.
    tokens = max(1, rows * (context - length + 1) // context - WINDOWS * context)
    config = ScanConfig(length=length, context=context, keep=keep, batch=WINDOWS, tokens=tokens)
    scan(task.lm, documents, others_of([feature]), folder, config)
    found = load_scan(folder)
    return found.examples(task.feature).ids, sum(len(window.ids) for window in found.windows)
