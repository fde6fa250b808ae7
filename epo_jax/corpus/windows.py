"""Documents cut into windows of tokens, so that each position is read once, with at least T - 1 tokens before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from epo_jax.corpus.sources import Document
from epo_jax.errors import EpoError


class Window(NamedTuple):
    """Tokens of one document that the model sees together.

    Attributes:
        ids: int32[n], at most the context.
        document: its name.
        start: which of the document's tokens is the first.
    """

    ids: Int32[np.ndarray, " n"]
    document: str
    start: int


@runtime_checkable
class Tokenizer(Protocol):
    """What gives a text's tokens."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


def windows_of(
    documents: Iterable[Document], tokenizer: Tokenizer, context: int, length: int, vocabulary: int
) -> Iterator[Window]:
    """Windows that overlap by `length` - 1 tokens and never cross documents.

    A hit is a window's token that has `length` - 1 others before it there. So each token of a document but its first
    `length` - 1 is one exactly once; shorter documents have none and no windows.

    Args:
        documents: of the corpus.
        tokenizer: the model's.
        context: tokens of a window, at least `length`.
        length: tokens of a dream, T.
        vocabulary: of the model.

    Raises:
        EpoError: the tokenizer gives tokens that the model does not have.
    """
    stride = context - length + 1
    for document in documents:
        ids = np.asarray(tokenizer.encode(document.text, add_special_tokens=False), np.int32)
        if ids.size and ids.max() >= vocabulary:
            raise EpoError(
                f"--corpus: {document.name} holds token {ids.max()}, and the model has 0 to {vocabulary - 1}"
            )
        for start in range(0, len(ids) - length + 1, stride):
            yield Window(ids[start : start + context], document.name, start)


def batches_of(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    """Neighbours together, the last ones fewer."""
    batch: list[Window] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def padded(batch: list[Window], size: int, context: int) -> tuple[Int32[np.ndarray, "B S"], Int32[np.ndarray, " B"]]:
    """Tokens of windows in one array, and how many of each count; those that fill up count none."""
    ids = np.zeros((size, context), np.int32)
    lengths = np.zeros(size, np.int32)
    for row, window in enumerate(batch):
        ids[row, : len(window.ids)] = window.ids
        lengths[row] = len(window.ids)
    return ids, lengths
