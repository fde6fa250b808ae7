"""What prompts may be: settings that say which tokens and texts they may not hold."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from epo_jax.errors import EpoError, one_line

RETOKENIZE = ("off", "mark", "reject")


@dataclasses.dataclass(frozen=True)
class Constraints:
    """What prompts may be; by default everything but special and unused tokens.

    Attributes:
        ban_tokens: tokens that no prompt may hold: numbers are ids, and texts stand for all tokens of that text, spaces
            and case included.
        ban_pattern: regular expression; a token is banned where it is found in the token's text (see `token_texts`).
            Empty for none.
        ascii_only: whether tokens with other than ASCII characters are banned, parts of such characters included.
        ban_text: texts that the prompt may hold nowhere, in any case, within it or reaching into the text around it.
        retokenize: what becomes of prompts whose text, the text around it included, is not tokenized to the same
            tokens again: "off" nothing, "mark" the frontier tells, "reject" they are neither scored nor kept.
        freeze: positions among the optimized tokens, negative ones from the end, that keep their initial token.
        allow_special: whether special and unused tokens may be used.

    Raises:
        EpoError: a value that cannot be used, naming its flag.
    """

    ban_tokens: tuple[int | str, ...] = ()
    ban_pattern: str = ""
    ascii_only: bool = False
    ban_text: tuple[str, ...] = ()
    retokenize: str = "off"
    freeze: tuple[int, ...] = ()
    allow_special: bool = False

    def __post_init__(self) -> None:
        for name in ("ban_tokens", "ban_text", "freeze"):
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)):
                raise EpoError(f"--{name}={value}: must be a list")
            object.__setattr__(self, name, tuple(value))
        for token in self.ban_tokens:
            if isinstance(token, bool) or not isinstance(token, (int, str)) or token == "":
                raise EpoError(f"--ban_tokens={token}: must be a token's id or its text")
        try:
            re.compile(self.ban_pattern)
        except (re.error, TypeError) as error:
            raise EpoError(f"--ban_pattern={self.ban_pattern}: no regular expression ({one_line(error)})") from error
        for text in self.ban_text:
            _check_text(text)
        if self.retokenize not in RETOKENIZE:
            raise EpoError(f"--retokenize={self.retokenize}: not one of {', '.join(RETOKENIZE)}")
        for position in self.freeze:
            if isinstance(position, bool) or not isinstance(position, int):
                raise EpoError(f"--freeze={position}: must be whole numbers, positions among the optimized tokens")
        for name in ("ascii_only", "allow_special"):
            if not isinstance(getattr(self, name), bool):
                raise EpoError(f"--{name}={getattr(self, name)}: must be true or false")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Constraints:
        """The constraints that `to_json` gave.

        Raises:
            EpoError: a field that does not exist, or a value that cannot be used.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise EpoError(f"config.json: unknown constraints {', '.join(unknown)}")
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**fields)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise EpoError(f"--ban_text={text!r}: must be a text")
    if not text:
        raise EpoError("--ban_text: an empty text is part of every prompt; give at least one character")
    # Decoding writes U+FFFD for bytes that are no text, and lone surrogates are never decoded.
    if "\ufffd" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise EpoError(f"--ban_text={text!r}: holds U+FFFD or half of a surrogate pair, which stand for no character")
