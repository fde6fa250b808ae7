"""Ranges in feature strings and seeds: half-open, like Python's."""

from __future__ import annotations

import re

from epo_jax.errors import EpoError

MOST = 2**16  # a slip of the keyboard, such as a missing colon, asks for more
_BOUNDS = r"(\d+)(?::(\d+))?"
_NEURONS = re.compile(rf"L{_BOUNDS}\.N{_BOUNDS}")
_SEEDS = re.compile(r"(\d+):(\d+)")


def expand(text: str) -> list[str]:
    """The feature strings that a text with ranges stands for: "L10.N0:64", "L0:12.N0:100"; others are verbatim.

    Raises:
        EpoError: a range that holds nothing, or too much.
    """
    match = _NEURONS.fullmatch(text)
    if match is None:
        return [text]
    layers, neurons = _range("feature", text, match[1], match[2]), _range("feature", text, match[3], match[4])
    _check_count("feature", text, len(layers) * len(neurons))
    return [f"L{layer}.N{neuron}" for layer in layers for neuron in neurons]


def expand_seeds(text: str) -> list[int]:
    """The seeds that a text stands for: "3", or "0:60" for a range.

    Raises:
        EpoError: neither a whole number nor a range, or a range that holds nothing, or too much.
    """
    match = _SEEDS.fullmatch(text.strip())
    if match is not None:
        seeds = _range("seed", text, match[1], match[2])
        _check_count("seed", text, len(seeds))
        return list(seeds)
    try:
        return [int(text)]
    except ValueError as error:
        raise EpoError(f"--seed={text}: not a whole number, such as 3, or a range, such as 0:60") from error


def _range(flag: str, text: str, start: str, stop: str | None) -> range:
    first = int(start)
    last = first + 1 if stop is None else int(stop)
    if last <= first:
        raise EpoError(
            f"--{flag}={text}: the range {start}:{stop} is empty; it holds its start and not its end, as in 0:64"
        )
    return range(first, last)


def _check_count(flag: str, text: str, count: int) -> None:
    if count > MOST:
        raise EpoError(f"--{flag}={text}: names {count}, and at most {MOST} are taken")
