"""The vocabulary in the metadata of a GGUF file, checked as it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from epo_jax.errors import EpoError

# The kinds of tokens that tokenizer.ggml.token_type tells apart (0, undefined, and 1, normal, are plain vocabulary).
UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 3, 4, 5, 6


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of a GGUF file.

    Attributes:
        metadata: GGUF key -> decoded Python value.
        source: the file's name, for errors.
        tokens: each token's string, by id.
        types: each token's kind, by id.
        ids: token -> id.
    """

    metadata: Mapping[str, Any]
    source: str
    tokens: list[str]
    types: list[int]
    ids: dict[str, int]

    def read(self, name: str, kind: type, default: Any = None) -> Any:
        """The value of tokenizer.ggml.`name`.

        Raises:
            EpoError: it is of another kind, or missing and there is no default.
        """
        return _read(self.metadata, self.source, name, kind, default)

    def read_list(self, name: str, kind: type) -> list[Any]:
        """The list tokenizer.ggml.`name`.

        Raises:
            EpoError: it is missing or has an entry of another kind.
        """
        return _read_list(self.metadata, self.source, name, kind)

    def special(self, name: str) -> str | None:
        """The token that tokenizer.ggml.`name`_token_id names, if the file has that key.

        Raises:
            EpoError: the id is outside the vocabulary.
        """
        if f"tokenizer.ggml.{name}_token_id" not in self.metadata:
            return None
        index: int = self.read(f"{name}_token_id", int)
        if not 0 <= index < len(self.tokens):
            raise EpoError(
                f"{self.source}: tokenizer.ggml.{name}_token_id is {index}, outside the vocabulary 0 to "
                f"{len(self.tokens) - 1}"
            )
        return self.tokens[index]


def read_vocabulary(metadata: Mapping[str, Any], source: str) -> Vocabulary:
    """The tokens and their kinds.

    Args:
        metadata: GGUF key -> decoded Python value.
        source: the file's name, for errors.

    Raises:
        EpoError: a key is missing or of another type, or tokens and kinds contradict each other.
    """
    tokens: list[str] = _read_list(metadata, source, "tokens", str)
    types: list[int] = _read_list(metadata, source, "token_type", int)
    ids = {token: index for index, token in enumerate(tokens)}
    if len(types) != len(tokens):
        raise EpoError(
            f"{source}: tokenizer.ggml.token_type has {len(types)} entries and tokenizer.ggml.tokens {len(tokens)}; "
            "they must have one each for every token"
        )
    if len(ids) != len(tokens):
        twice = next(token for index, token in enumerate(tokens) if ids[token] != index)
        raise EpoError(f"{source}: tokenizer.ggml.tokens has the token {twice!r} twice; every token must be different")
    if "" in ids:
        raise EpoError(f"{source}: token {ids['']} of tokenizer.ggml.tokens is empty; every token must have a text")
    wrong = next((index for index, kind in enumerate(types) if kind not in range(BYTE + 1)), None)
    if wrong is not None:
        raise EpoError(
            f"{source}: tokenizer.ggml.token_type of token {wrong} is {types[wrong]!r}, not one of 0 to {BYTE}"
        )
    return Vocabulary(metadata, source, tokens, types, ids)


def _read(metadata: Mapping[str, Any], source: str, name: str, kind: type, default: Any = None) -> Any:
    key = f"tokenizer.ggml.{name}"
    value = metadata.get(key, default)
    if value is None:
        raise EpoError(f"{source}: the GGUF metadata lacks {key}, so it holds no whole tokenizer")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise EpoError(f"{source}: {key} holds a {type(value).__name__} where a {kind.__name__} is read")
    return value


def _read_list(metadata: Mapping[str, Any], source: str, name: str, kind: type) -> list[Any]:
    values: list[Any] = _read(metadata, source, name, list)
    wrong = next((value for value in values if not isinstance(value, kind)), None)
    if wrong is not None:
        raise EpoError(f"{source}: tokenizer.ggml.{name} holds {wrong!r} where every entry is a {kind.__name__}")
    return values
