"""Constraints as flags: what command lines give, and what runs them again."""

from __future__ import annotations

from epo_jax.constraints import Constraints
from epo_jax.errors import EpoError

TEXT = "text:"


def parse_token(given: str) -> int | str:
    """The token that --ban_tokens names: an id, or a text, which "text:" may stand before."""
    if given.startswith(TEXT):
        return given.removeprefix(TEXT)
    return int(given) if given.isascii() and given.isdigit() else given


def parse_position(given: str) -> int:
    """The position that --freeze names.

    Raises:
        EpoError: it is no whole number.
    """
    try:
        return int(given)
    except ValueError as error:
        raise EpoError(f"--freeze={given}: not a position, such as 0 or -1, or several, such as 0,3,-1") from error


def flags_of(constraints: Constraints) -> list[tuple[str, str]]:
    """Names and values of the flags that give constraints; those that are as by default are left out."""
    default = Constraints()
    flags: list[tuple[str, str]] = []
    for name, value in vars(constraints).items():
        if value == getattr(default, name):
            continue
        if name == "freeze":
            flags.append((name, ",".join(map(str, value))))
        elif name == "ban_tokens":
            flags += [(name, _token(token)) for token in value]
        elif isinstance(value, tuple):
            flags += [(name, one) for one in value]
        else:
            flags.append((name, str(value).lower() if isinstance(value, bool) else value))
    return flags


def _token(token: int | str) -> str:
    text = str(token)
    return TEXT + text if isinstance(token, str) and parse_token(text) != token else text
