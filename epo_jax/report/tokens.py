"""Token texts made visible: white space, control characters and boundaries that a reader would otherwise miss."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

SPACE = "·"
BOUNDARY = "│"
NEWLINE = "⏎"
TAB = "⇥"
EMPTY = "∅"
_DOTTED_CIRCLE = "◌"
_MARKS = frozenset({SPACE, BOUNDARY, NEWLINE, TAB, EMPTY})


@dataclass(frozen=True)
class Piece:
    """A stretch of a token: its own text, spaces at its edge, or a mark that stands for something invisible."""

    kind: Literal["text", "space", "mark"]
    text: str


def escape(character: str) -> str:
    r"""The Python escape of one character: `\x07`, `\u202e` or `\U000e0001`."""
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def is_hidden(character: str) -> bool:
    """Whether a character shows nothing by itself: controls, bidi and zero-width formats, odd spaces, surrogates."""
    category = unicodedata.category(character)
    return category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} or (category == "Zs" and character != " ")


def plain(text: str) -> str:
    """The text to copy: as it is, newlines and tabs included, other hidden characters as escapes.

    The escapes keep a right-to-left override from reordering what surrounds it, and lone surrogates out of UTF-8.
    """
    return "".join(escape(c) if is_hidden(c) and c not in "\n\t" else c for c in text)


def one_line(text: str, drawable: Callable[[str], bool] = lambda _: True) -> str:
    """The text on one line, hidden characters and those that are not `drawable` as escapes."""
    return "".join(escape(c) if is_hidden(c) or not drawable(c) else c for c in text)


def pieces(token: str) -> tuple[Piece, ...]:
    """One token's text as pieces; the texts of "space" pieces are real spaces, those of "mark" pieces stand-ins."""
    if not token:
        return (Piece("mark", EMPTY),)
    core = token.strip(" ")
    lead = len(token) - len(token.lstrip(" "))
    found = [Piece("space", token[:lead])] if lead else []
    # A combining mark at the start would otherwise settle on whatever is drawn before it.
    if core and lead == 0 and unicodedata.category(core[0]) in {"Mn", "Mc", "Me"}:
        core = _DOTTED_CIRCLE + core
    run = ""
    for character in core:
        mark = _stand_in(character)
        if mark is None:
            run += character
            continue
        if run:
            found.append(Piece("text", run))
        found.append(Piece("mark", mark))
        run = ""
    if run:
        found.append(Piece("text", run))
    if core and (trail := len(token) - len(token.rstrip(" "))):
        found.append(Piece("space", " " * trail))
    return tuple(found)


def visible(text: str) -> str:
    """One token's text on one line: newline as ⏎, tab as ⇥, spaces at its edges as ·, hidden characters as escapes.

    The marks themselves are escaped where the token really contains them, so that a mark always is a mark.
    """
    return "".join(_flat(piece) for piece in pieces(text))


def join_visible(tokens: Iterable[str]) -> str:
    """The tokens' visible texts with the mark │ between them."""
    return BOUNDARY.join(visible(token) for token in tokens)


def _stand_in(character: str) -> str | None:
    if character == "\n":
        return NEWLINE
    if character == "\t":
        return TAB
    return escape(character) if is_hidden(character) else None


def _flat(piece: Piece) -> str:
    if piece.kind == "space":
        return SPACE * len(piece.text)
    return piece.text if piece.kind == "mark" else "".join(escape(c) if c in _MARKS else c for c in piece.text)
