"""A search's tables on the host: which tokens it may use, and where they lead."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Integer

from epo_jax.epo import Algorithm
from epo_jax.epo.lengths import PAD
from epo_jax.parallel.placing import fetched


class HostTables:
    """What a search knows of tokens.

    Attributes:
        allowed: bool[V].
        movable: bool[T].
        start: the state before the first optimized token.
    """

    def __init__(self, algorithm: Algorithm):
        """Fetch the tables."""
        self.allowed: Bool[np.ndarray, " V"] = np.asarray(fetched(algorithm.allowed))
        self.movable: Bool[np.ndarray, " T"] = np.ones(algorithm.length, np.bool_)
        if algorithm.movable is not None:
            self.movable = np.asarray(fetched(algorithm.movable))
        # Without banned texts there is a single state.
        self._table: Integer[np.ndarray, "Q V"] = np.zeros((1, len(self.allowed)), np.uint8)
        self._bad, self._open = np.zeros(1, np.bool_), np.ones((algorithm.length + 1, 1), np.bool_)
        self.start = 0
        if algorithm.automaton is not None:
            found = algorithm.automaton
            told = fetched((found.table, found.bad, found.open, found.start))
            self._table, self._bad, self._open = (np.asarray(part) for part in told[:3])
            self.start = int(told[3])

    def after(self, state: int, token: int) -> int:
        """The state after a token."""
        return int(self._table[state, token])

    def usable(self, state: int, position: int) -> Integer[np.ndarray, " n"]:
        """The tokens that can stand at a position in a state, so that more of them may follow to a good end."""
        return np.flatnonzero(self.allowed & self._open[position + 1][self._table[state]])

    def breaks(self, prompts: Integer[np.ndarray, "N T"]) -> Bool[np.ndarray, " N"]:
        """Which prompts hold a banned text."""
        states: Integer[np.ndarray, " N"] = np.full(len(prompts), self.start)
        for tokens in prompts.T:
            states = np.where(tokens == PAD, states, self._table[states, tokens])
        breaks: Bool[np.ndarray, " N"] = self._bad[states]
        return breaks
