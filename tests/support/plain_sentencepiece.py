"""SentencePiece's BPE in plain Python: an oracle of the tokenizers' tests."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping

SPACE = "▁"


def encode(
    text: str,
    scores: Mapping[str, float],
    user_defined: Iterable[str] = (),
    prefix: bool = False,
    unknown: str | None = None,
) -> list[str]:
    """Tokens of a text.

    Args:
        text: the text.
        scores: of the tokens that are merged from characters.
        user_defined: tokens that are cut out first, the leftmost and of those the longest.
        prefix: a space is added before the text and before each piece after a user-defined token.
        unknown: the token for a run of characters without a token; without it they become their bytes' tokens.
    """
    out = []
    for piece, whole in _cut(text, sorted(user_defined, key=len, reverse=True)):
        if whole:
            out.append(piece)
        else:
            out += _pieces((" " + piece if prefix else piece).replace(" ", SPACE), scores, unknown)
    return out


def merge(text: str, scores: Mapping[str, float]) -> list[str]:
    """Merge the neighbours whose union has the best score, the leftmost of equal ones, until none is a token."""
    symbols = list(text)
    while True:
        unions = [(left + right, at) for at, (left, right) in enumerate(itertools.pairwise(symbols))]
        best = max(((scores[union], -at) for union, at in unions if union in scores), default=None)
        if best is None:
            return symbols
        at = -best[1]
        symbols[at : at + 2] = ["".join(symbols[at : at + 2])]


def _cut(text: str, user_defined: list[str]) -> Iterator[tuple[str, bool]]:
    if not user_defined:
        yield from [(text, False)] if text else []
        return
    for at, piece in enumerate(re.split(f"({'|'.join(map(re.escape, user_defined))})", text)):
        if piece:
            yield piece, at % 2 == 1


def _pieces(text: str, scores: Mapping[str, float], unknown: str | None) -> Iterator[str]:
    before = None
    for symbol in merge(text, scores):
        if symbol in scores:
            yield symbol
        elif unknown is None:
            yield from (f"<0x{byte:02X}>" for byte in symbol.encode())
        elif before in scores or before is None:
            yield unknown
        before = symbol
