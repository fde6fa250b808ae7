"""From banned texts and a tokenizer's bytes to a table of states and tokens.

The reader of bytes is followed through all that it may know of what it has read; states that nothing can tell apart are
made one; and every token's bytes are looked up at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Integer

from epo_jax.constraints.reader import HIT, NOTHING, Reader, Reading, closed
from epo_jax.epo.automaton import Automaton
from epo_jax.errors import EpoError
from epo_jax.models.token_bytes import TokenBytes

# The number of states is filled up to a multiple of this, so that most lists of texts share one compilation.
STATES = 64
LARGEST_TABLE = 2**29
# Symbols: a byte of a token's text, and 256 more for the byte that a token stands for.
LONE = 256
# Entries that are looked up at a time.
AT_ONCE = 2**22


def text_automaton(
    texts: Sequence[str],
    tokens: TokenBytes,
    allowed: Bool[np.ndarray, " V"],
    length: int,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
) -> Automaton:
    """What finds texts in prompts, in any case, wherever they touch an optimized token.

    Args:
        texts: at least one, none empty.
        tokens: what each token is decoded to.
        allowed: the tokens that prompts are made of.
        length: optimized tokens.
        prefix: frozen tokens before them.
        suffix: frozen tokens after them.

    Raises:
        EpoError: the table would be too large, or no prompt is without a text.
    """
    reader = Reader(texts)
    before = _symbols(prefix, tokens, at_start=True)
    start = NOTHING
    for symbol in before:
        # A text that lies in the prefix alone does not count.
        start = reader.after(start, symbol % LONE, symbol >= LONE, lambda *_: False)
    readings, steps, columns = _all_readings(reader, start, bool(tokens.lone.any()))
    after = _symbols(suffix, tokens, at_start=False)
    bad = np.asarray([_ends_badly(reader, reading, after) for reading in readings])
    classes, small = _merged(steps, bad)
    count = small.shape[0]
    # A token that is the first of a text may be decoded in another way, so that a start of its own is needed.
    own_start = not prefix and tokens.first != tokens.anywhere
    filled = -(-(count + own_start) // STATES) * STATES
    dtype = np.uint8 if filled <= 2**8 else np.uint16
    vocabulary = len(tokens.anywhere)
    size = filled * vocabulary * np.dtype(dtype).itemsize
    if filled > 2**16 or size > LARGEST_TABLE:
        raise EpoError(
            f"--ban_text: {len(texts)} texts make a table of {size / 2**20:.0f} MiB for {vocabulary} tokens, and "
            f"{LARGEST_TABLE / 2**20:.0f} MiB is the most; give fewer or shorter ones"
        )
    hit = classes[readings.index(HIT)]
    table = np.full((filled, vocabulary), hit, dtype)
    table[:count] = _of_tokens(small, columns, tokens.anywhere, tokens.lone)
    ends = np.ones(filled, np.bool_)
    ends[classes] = bad
    first = classes[readings.index(start)]
    if own_start:
        table[count] = _of_tokens(small, columns, tokens.first, tokens.lone, rows=slice(first, first + 1))[0]
        first = count
    opened = _open(table, allowed, ends, length)
    if not opened[0, first]:
        raise EpoError(
            f"--ban_text: every prompt of {length} allowed tokens holds one of these texts, with the text around it; "
            "give other texts, or ban fewer tokens"
        )
    return Automaton(jnp.asarray(table), jnp.int32(first), jnp.asarray(ends), jnp.asarray(opened))


def _symbols(ids: Sequence[int], tokens: TokenBytes, at_start: bool) -> list[int]:
    symbols = []
    for number, token in enumerate(ids):
        text = (tokens.first if at_start and number == 0 else tokens.anywhere)[token]
        symbols += [byte + LONE * int(tokens.lone[token]) for byte in text]
    return symbols


def _all_readings(
    reader: Reader, start: Reading, lone: bool
) -> tuple[list[Reading], Integer[np.ndarray, "n columns"], Integer[np.ndarray, " symbols"]]:
    """Everything that can be known of bytes read, the steps between, and which symbols are one in every step."""
    kinds: dict[object, int] = {}
    columns = np.zeros(2 * LONE, np.int32)
    stands: list[int] = []
    for symbol in range(2 * LONE if lone else LONE):
        kind = _kind(reader, symbol % LONE, symbol >= LONE)
        if kind not in kinds:
            kinds[kind] = len(stands)
            stands.append(symbol)
        columns[symbol] = kinds[kind]
    numbers = {reading: number for number, reading in enumerate(dict.fromkeys((NOTHING, start, HIT)))}
    readings = list(numbers)
    steps = []
    for reading in readings:  # grows meanwhile
        row = []
        for symbol in stands:
            following = reader.after(reading, symbol % LONE, symbol >= LONE, reader.ends_any)
            if following not in numbers:
                numbers[following] = len(readings)
                readings.append(following)
            row.append(numbers[following])
        steps.append(row)
    return readings, np.asarray(steps, np.int32), columns


def _kind(reader: Reader, byte: int, lone: bool) -> object:
    """What tells a byte from others: of those that no character which matters is made of, only their part in UTF-8."""
    if byte in reader.bytes or (lone and byte >= 0xC0):
        return byte, lone
    return (byte >> 4 if lone else -1), "others"


def _ends_badly(reader: Reader, reading: Reading, suffix: Sequence[int]) -> bool:
    """Whether a prompt that was read so far holds a text, or begins one that the suffix ends."""
    read = own = 0

    def reaches_back(states: list[int], width: int) -> bool:
        nonlocal own
        found = False
        for state in states:
            # A character of which some bytes are the prompt's is not the suffix's own.
            own += width <= read
            found = found or reader.matcher.longest[state] > own
        return found

    most = max(reader.matcher.longest)
    for symbol in suffix:
        if own >= most and not reading.run:
            break
        read += 1
        reading = reader.after(reading, symbol % LONE, symbol >= LONE, reaches_back)
    return closed(reading) == HIT


def _merged(
    steps: Integer[np.ndarray, "n columns"], bad: Bool[np.ndarray, " n"]
) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, "classes columns"]]:
    """The class of each state, states being one that no symbols tell apart, and the steps between classes."""
    classes, count = bad.astype(np.int32), 0
    while True:
        rows = np.concatenate([classes[:, None], classes[steps]], axis=1)
        numbers: dict[bytes, int] = {}
        classes = np.asarray([numbers.setdefault(row.tobytes(), len(numbers)) for row in rows], np.int32)
        if len(numbers) == count:
            break
        count = len(numbers)
    firsts = np.unique(classes, return_index=True)[1]
    return classes, classes[steps[firsts]]


def _of_tokens(
    steps: Integer[np.ndarray, "classes columns"],
    columns: Integer[np.ndarray, " symbols"],
    texts: Sequence[bytes],
    lone: Bool[np.ndarray, " V"],
    rows: slice = slice(None),
) -> Integer[np.ndarray, "rows V"]:
    """The state after each token, from each of some states."""
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    lengths = np.asarray([len(texts[index]) for index in order])
    symbols = np.zeros((lengths[0] if len(order) else 0, len(order)), np.int32)
    for place, index in enumerate(order):
        symbols[: lengths[place], place] = columns[
            np.frombuffer(texts[index], np.uint8).astype(np.int32) + LONE * int(lone[index])
        ]
    from_states = np.arange(len(steps), dtype=np.int32)[rows]
    found = np.empty((len(from_states), len(order)), np.int32)
    group = max(1, AT_ONCE // max(1, len(order)))
    for begin in range(0, len(from_states), group):
        states = np.repeat(from_states[begin : begin + group, None], len(order), axis=1)
        for place, row in enumerate(symbols):
            # Longest first, so that those which have a byte here stand at the front.
            more = int(np.searchsorted(-lengths, -place, side="left"))
            states[:, :more] = steps[states[:, :more], row[:more]]
        found[begin : begin + group, order] = states
    return found


def _open(
    table: Integer[np.ndarray, "Q V"], allowed: Bool[np.ndarray, " V"], bad: Bool[np.ndarray, " Q"], length: int
) -> Bool[np.ndarray, "positions Q"]:
    """States before each position, and after the last, from which allowed tokens lead to a state that is not bad."""
    leads = np.zeros((len(table), len(table)), np.bool_)
    for state, row in enumerate(table):
        leads[state, row[allowed]] = True
    opened = [~bad]
    for _ in range(length):
        opened.insert(0, (leads & opened[0]).any(axis=1))
    return np.stack(opened)
