"""The bytes that decoding makes of each token, from which a text of many tokens can be told without decoding it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from epo_jax.models.sentencepiece_tokenizers import BYTE_TOKEN
from epo_jax.models.tokenizers import byte_level_bytes


@dataclasses.dataclass(frozen=True)
class TokenBytes:
    """What decoding makes of the tokens of a vocabulary.

    Decoding joins the bytes and reads them as UTF-8; U+FFFD stands for what is none.

    Attributes:
        anywhere: what each token adds to a text, empty for rows without a token.
        first: the same for a token that is the first of a text.
        lone: bool[V], tokens that stand for one byte: a run of them that is not UTF-8 as a whole becomes a U+FFFD for
            each. All False where any token may hold a part of a character.
        unknown: the decoder's step that makes all of this uncertain; empty where there is none.
    """

    anywhere: tuple[bytes, ...]
    first: tuple[bytes, ...]
    lone: Bool[np.ndarray, " V"]
    unknown: str = ""

    @property
    def whole(self) -> Bool[np.ndarray, " V"]:
        """Which tokens hold whole characters alone; others are parts, of which a text hardly ever is made again."""
        return np.array([_is_text(held) for held in self.anywhere], np.bool_)

    @property
    def opens_word(self) -> Bool[np.ndarray, " V"]:
        """Which tokens are a space and letters: words, or the beginnings of some."""
        return np.array([held[:1] == b" " and _is_text(held) and held[1:].decode().isalpha() for held in self.anywhere])


def token_bytes(tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> TokenBytes:
    """The bytes of every token.

    Args:
        tokenizer: byte-level, SentencePiece's, or one of whole words.
        vocab_size: V, the rows of the embedding.
    """
    steps = _steps(tokenizer)
    kinds = [step["type"] for step in steps]
    to_token = tokenizer.backend_tokenizer.id_to_token
    tokens = [to_token(index) for index in range(vocab_size)]
    lone = np.zeros(vocab_size, np.bool_)
    if kinds == ["ByteLevel"]:
        whole = tuple(b"" if token is None else byte_level_bytes(token) for token in tokens)
        return TokenBytes(whole, whole, lone)
    unknown = next((step["type"] for step in steps if not _is_known(step)), "")
    anywhere, first = [], []
    for index, token in enumerate(tokens):
        match = BYTE_TOKEN.fullmatch(token or "") if "ByteFallback" in kinds else None
        if match is not None:
            lone[index] = True
            byte = bytes.fromhex(match[1])
            texts = byte, b"" if byte == b" " and "Strip" in kinds else byte
        else:
            texts = _texts(token or "", steps)
        anywhere.append(texts[0])
        first.append(texts[1])
    return TokenBytes(tuple(anywhere), tuple(first), lone, unknown)


def _texts(token: str, steps: Sequence[dict[str, Any]]) -> tuple[bytes, bytes]:
    """A token's text anywhere, and as the first of a text."""
    if not steps and token:
        # Without a decoder words are joined with spaces.
        return f" {token}".encode(), token.encode()
    text, first = token, token
    for step in steps:
        if step["type"] == "Replace" and "String" in step["pattern"]:
            old, new = step["pattern"]["String"], step["content"]
            text, first = text.replace(old, new), first.replace(old, new)
        elif step["type"] == "Metaspace":
            mark = step["replacement"]
            text, first = text.replace(mark, " "), first.replace(mark, " " if step["prepend_scheme"] == "never" else "")
        elif step["type"] == "Strip":
            first = first.removeprefix(" ")
    return text.encode(), first.encode()


def _steps(tokenizer: PreTrainedTokenizerFast) -> list[dict[str, Any]]:
    decoder = tokenizer.backend_tokenizer.decoder
    if decoder is None:
        return []
    state = json.loads(decoder.__getstate__())
    return list(state["decoders"]) if state["type"] == "Sequence" else [state]


def _is_known(step: dict[str, Any]) -> bool:
    if step["type"] == "Replace":
        return "String" in step["pattern"]
    if step["type"] == "Strip":
        return (step["content"], step["start"], step["stop"]) == (" ", 1, 0)
    return step["type"] in ("ByteFallback", "Metaspace", "Fuse")


def _is_text(held: bytes) -> bool:
    try:
        held.decode()
    except UnicodeDecodeError:
        return False
    return True
