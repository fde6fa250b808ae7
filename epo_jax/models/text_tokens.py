"""Tokens of a text that must not be lost: they give the text back."""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerFast

from epo_jax.errors import EpoError
from epo_jax.models.language_model import LanguageModel

# What text may follow, one of which is no part of a token with it.
_BEFORE = ("\n", "a", ".", "0")


def tokens_of(lm: LanguageModel, text: str, name: str, *, inside: bool = False) -> list[int]:
    """A text's tokens, special ones that stand in it included; no BOS is added.

    SentencePiece tokenizers put a space before a text. White space beside a special token may belong to that token.

    Args:
        lm: the model.
        text: what to tokenize, by itself.
        name: the flag that gave it, for errors.
        inside: whether other text stands before it, so that no space is put there.

    Raises:
        EpoError: the tokens do not give the text back, since there are none for some of its characters, or one of them
            is outside the model's vocabulary.
    """
    tokenizer = lm.tokenizer
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EpoError(f"{name}={shown(text)}: is not valid Unicode ({error.reason}); give it as UTF-8") from error
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    found = _text_of(tokenizer, ids)
    spaced = not _same(tokenizer, found, text) and _same(tokenizer, found, f" {text}")
    if spaced and inside:
        ids = _without_space(tokenizer, text, name)
    elif not spaced and not _same(tokenizer, found, text):
        lost = "".join(dict.fromkeys(character for character in text if character not in found))
        raise EpoError(
            f"{name}={shown(text)}: the tokenizer of {lm.source} makes {found!r} of it"
            + (f"; leave out {lost!r}, for which it has no token" if lost else "; give it as it comes out")
        )
    outside = sorted({token for token in ids if token >= lm.config.vocab_size})
    if outside:
        raise EpoError(
            f"{name}={shown(text)}: its tokens {', '.join(map(str, outside))} are outside the model's vocabulary of "
            f"{lm.config.vocab_size}"
        )
    return ids


def shown(text: str) -> str:
    """A text for a message of one line: quoted and escaped where something in it cannot be printed."""
    return text if text.isprintable() else repr(text)


def _without_space(tokenizer: PreTrainedTokenizerFast, text: str, name: str) -> list[int]:
    for before in _BEFORE:
        start = tokenizer.encode(before, add_special_tokens=False)
        both = tokenizer.encode(before + text, add_special_tokens=False)
        if both[: len(start)] == start and _same(tokenizer, _text_of(tokenizer, both[len(start) :]), text):
            return list(both[len(start) :])
    raise EpoError(
        f"{name}={shown(text)}: has no tokens of its own where it follows other text; let it start with a space"
    )


def _text_of(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """The text of tokens inside a text: of a whole one, decoders of SentencePiece take off the first space."""
    before = tokenizer.encode("a", add_special_tokens=False)
    return _decoded(tokenizer, before + ids).removeprefix(_decoded(tokenizer, before))


def _decoded(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _same(tokenizer: PreTrainedTokenizerFast, one: str, other: str) -> bool:
    if tokenizer.backend_tokenizer.decoder is None:
        # White space stands between the tokens and is no part of them.
        return one.split() == other.split()
    swallowing = [
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if (token.special or token.lstrip or token.rstrip) and token.content.strip()
    ]
    if swallowing:
        beside = re.compile(rf"\s*({'|'.join(map(re.escape, swallowing))})\s*")
        one, other = beside.sub(r"\1", one), beside.sub(r"\1", other)
    return one == other
