"""Ranges in feature strings and seeds: half-open, like Python's."""

from __future__ import annotations

import re

from epo_jax.errors import EpoError

MOST = 2**16  # a slip of the keyboard, such as a missing colon, asks for more
_BOUNDS = r"(\d+)(?::(\d+))?"
# What stands before, between and behind a range of layers and one of neurons, heads or seeds; a file has one range.
_FORMS = tuple(
    re.compile(form, re.DOTALL)
    for form in (
        rf"(-?L){_BOUNDS}(\.N){_BOUNDS}()",
        rf"(-?attention:L){_BOUNDS}(\.H){_BOUNDS}(:-?\d+)",
        rf"(-?residual:L){_BOUNDS}((?:\.\w+)?:random:){_BOUNDS}()",
        rf"(-?residual:L){_BOUNDS}((?:\.\w+)?:.+)",
    )
)
_SEEDS = re.compile(r"(\d+):(\d+)")


def expand(text: str, flag: str = "feature") -> list[str]:
    """The feature strings that a text with ranges stands for; others are verbatim.

    "L10.N0:64", "L0:12.N0:100", "attention:L0:12.H0:8:0", "residual:L0:12:FILE.npy", "residual:L3:random:0:60", and
    these with a leading "-".

    Args:
        text: a feature string, with ranges or without.
        flag: which named it, for what is said about it.

    Raises:
        EpoError: a range that holds nothing, or too much.
    """
    match = next(filter(None, (form.fullmatch(text) for form in _FORMS)), None)
    if match is None:
        return [text]
    start, first, last, between, *rest = match.groups()
    layers = _range(flag, text, first, last)
    if not rest:
        _check_count(flag, text, len(layers))
        return [f"{start}{layer}{between}" for layer in layers]
    indices = _range(flag, text, rest[0], rest[1])
    _check_count(flag, text, len(layers) * len(indices))
    return [f"{start}{layer}{between}{index}{rest[2]}" for layer in layers for index in indices]


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
