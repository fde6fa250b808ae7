"""What several dreams have scored so far, chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from epo_jax.dream.history import Chunk, History, joined
from epo_jax.dream.progress import Best

ENDLESS = np.iinfo(np.int32).max


class Record:
    """All that R dreams scored; a dream whose scores are not finite ends with the iteration in which that was seen."""

    def __init__(self, chunks: Sequence[Chunk]):
        """Start with what was scored before, of which the initial prompts are the first."""
        # Each chunk with the last iteration of each dream, so that Ctrl-C finds both or neither.
        self._parts: list[tuple[Chunk, Int32[np.ndarray, " R"]]] = []
        self.best = Best()
        self.scored = 0
        self._add(chunks[0], np.full(chunks[0].ids.shape[1], ENDLESS, np.int32))
        for chunk in chunks[1:]:
            self.add(chunk)

    @property
    def initial(self) -> Chunk:
        """The initial prompts."""
        return self._parts[0][0]

    @property
    def iteration(self) -> int:
        """Iterations made."""
        return int(self._parts[-1][0].iteration[-1])

    @property
    def alive(self) -> int:
        """Dreams that have not ended."""
        return int((self._parts[-1][1] == ENDLESS).sum())

    def add(self, chunk: Chunk) -> None:
        """Add what was scored next."""
        self._add(chunk, self._parts[-1][1])

    def _add(self, chunk: Chunk, last: Int32[np.ndarray, " R"]) -> None:
        broken = chunk.broken
        first = np.where(broken.any(axis=0), chunk.iteration[broken.argmax(axis=0)], ENDLESS)
        last = np.minimum(last, first)
        self._parts.append((chunk, last))
        kept = chunk.iteration[:, None] <= last
        self.best = self.best.after(chunk, kept)
        self.scored += int(chunk.scored[kept].sum())

    def history(self, dream: int) -> History:
        """Everything that a dream scored."""
        last = int(self._parts[-1][1][dream])
        return joined([chunk.of(dream, last) for chunk, _ in self._parts])
