"""Reading bytes for banned texts, one after the other, as a decoder makes characters of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from epo_jax.constraints.folding import Matcher, ways_to_write

# A run of tokens that stand for one byte each: all of it becomes text, or none of it.
NO_RUN, OPEN, BROKEN = 0, 1, 2


class Reading(NamedTuple):
    """What must be known of the bytes read so far.

    Attributes:
        begun: the matcher's state.
        pending: bytes of a character that is not whole yet and may be one that matters.
        run: whether bytes of a run are being read.
        needed: in a run, how many bytes the character lacks, and least and greatest of the next one.
        found: whether a text was found in a run that may still turn out not to be text.
    """

    begun: int = 0
    pending: bytes = b""
    run: int = NO_RUN
    needed: tuple[int, int, int] = (0, 0, 0)
    found: bool = False


NOTHING = Reading()
# A banned text was found.
HIT = Reading(begun=-1)

# Given the matcher's states after the folded characters of a character, and its bytes: whether a text that counts ends.
Judge = Callable[[list[int], int], bool]


class Reader:
    """Reads bytes for banned texts.

    Attributes:
        matcher: of the texts.
        bytes: those that characters which matter are made of.
    """

    def __init__(self, texts: Iterable[str]):
        """Read texts in any case."""
        self.matcher = Matcher(dict.fromkeys(text.casefold() for text in texts))
        self._folding = ways_to_write(self.matcher.alphabet)
        self._beginnings = {written[:count] for written in self._folding for count in range(1, len(written))}
        self.bytes = frozenset(byte for written in self._folding for byte in written)

    def ends_any(self, states: list[int], _: int) -> bool:
        """A judge for whom every text counts."""
        return any(self.matcher.longest[state] for state in states)

    def after(self, reading: Reading, byte: int, lone: bool, judge: Judge) -> Reading:
        """The reading after a byte.

        Args:
            reading: before it.
            byte: of a character that may be spread over several tokens, or the one of a token that stands for it.
            lone: the latter.
            judge: says which texts count.
        """
        if reading == HIT:
            return HIT
        if lone:
            return self._in_run(reading, byte, judge)
        reading = closed(reading)
        if reading == HIT:
            return HIT
        pending = reading.pending + bytes([byte])
        if reading.pending and pending not in self._folding and pending not in self._beginnings:
            # What was pending is a character that does not matter, or none: this byte begins anew.
            reading, pending = NOTHING, bytes([byte])
        if pending in self._folding:
            states = self._states(reading.begun, pending)
            return HIT if judge(states, len(pending)) else Reading(states[-1])
        return Reading(reading.begun, pending) if pending in self._beginnings else NOTHING

    def _in_run(self, reading: Reading, byte: int, judge: Judge) -> Reading:
        if reading.run == BROKEN:
            return reading
        lacking, least, greatest = reading.needed
        # Bytes of a character that does not matter are not kept, only counted.
        matters = not lacking or reading.pending != b""
        if not lacking:
            lacking, least, greatest = _beginning(byte)
        elif least <= byte <= greatest:
            lacking, least, greatest = lacking - 1, 0x80, 0xBF
        else:
            lacking = -1
        if lacking < 0:
            return Reading(run=BROKEN)
        needed = (lacking, least, greatest) if lacking else (0, 0, 0)
        pending = reading.pending + bytes([byte])
        if reading.found or not matters:
            return Reading(run=OPEN, needed=needed, found=reading.found)
        if pending in self._folding:
            states = self._states(reading.begun, pending)
            found = judge(states, len(pending))
            return Reading(0 if found else states[-1], run=OPEN, found=found)
        if pending in self._beginnings:
            return Reading(reading.begun, pending, OPEN, needed)
        return Reading(run=OPEN, needed=needed)

    def _states(self, begun: int, written: bytes) -> list[int]:
        states = []
        for character in self._folding[written]:
            begun = self.matcher.after(begun, character)
            states.append(begun)
        return states


def closed(reading: Reading) -> Reading:
    """The reading after a run of lone bytes that has ended, if there is one."""
    if reading.run == NO_RUN:
        return reading
    if reading.run == BROKEN or reading.needed[0]:
        return NOTHING
    return HIT if reading.found else Reading(reading.begun)


def _beginning(byte: int) -> tuple[int, int, int]:
    """What a character's first byte asks for, by the table of well-formed UTF-8 of the Unicode standard; -1: none."""
    if byte < 0x80:
        return 0, 0, 0
    if 0xC2 <= byte <= 0xDF:
        return 1, 0x80, 0xBF
    if 0xE0 <= byte <= 0xEF:
        return 2, 0xA0 if byte == 0xE0 else 0x80, 0x9F if byte == 0xED else 0xBF
    if 0xF0 <= byte <= 0xF4:
        return 3, 0x90 if byte == 0xF0 else 0x80, 0x8F if byte == 0xF4 else 0xBF
    return -1, 0, 0
