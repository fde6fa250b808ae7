"""How banned texts are found in case-folded characters, and which characters these may be folded from."""

from __future__ import annotations

import collections
import functools
import sys
from collections.abc import Collection, Iterable, Mapping


class Matcher:
    """An automaton (Aho and Corasick's) that reads folded characters; state 0 is where nothing is begun.

    Attributes:
        longest: for each state the length of the longest text that ends there, 0 if none does.
    """

    def __init__(self, texts: Iterable[str]):
        """Read texts that are folded and not empty."""
        self._next: list[dict[str, int]] = [{}]
        self.longest = [0]
        for text in texts:
            state = 0
            for character in text:
                state = self._next[state].setdefault(character, len(self._next))
                if state == len(self._next):
                    self._next.append({})
                    self.longest.append(0)
            self.longest[state] = len(text)
        self._shorter = [0] * len(self._next)
        waiting = collections.deque([0])
        while waiting:
            state = waiting.popleft()
            for character, after in self._next[state].items():
                # The longest beginning of a text that ends here, but for the one that is read here itself.
                self._shorter[after] = self.after(self._shorter[state], character) if state else 0
                self.longest[after] = max(self.longest[after], self.longest[self._shorter[after]])
                waiting.append(after)

    def after(self, state: int, character: str) -> int:
        """The state after a folded character."""
        while state and character not in self._next[state]:
            state = self._shorter[state]
        return self._next[state].get(character, 0)

    @property
    def alphabet(self) -> frozenset[str]:
        """Folded characters that texts are made of."""
        return frozenset(character for after in self._next for character in after)


def ways_to_write(alphabet: Collection[str]) -> Mapping[bytes, str]:
    """Every character whose folding has one of some folded characters: its UTF-8 bytes, and its folding.

    "s" is written as s, S and the long s, and half of the sharp s and of some ligatures is one.
    """
    wanted = frozenset(alphabet)
    same = {character: character for character in wanted if character.casefold() == character}
    folded = {one: folding for one, folding in _changed().items() if not wanted.isdisjoint(folding)}
    return {character.encode(): folding for character, folding in (same | folded).items()}


@functools.cache
def _changed() -> Mapping[str, str]:
    """All characters that folding changes."""
    every = map(chr, range(sys.maxunicode + 1))
    return {character: folding for character in every if (folding := character.casefold()) != character}
