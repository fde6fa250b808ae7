"""The bytes of tokens, held against decoding."""

from __future__ import annotations

import numpy as np
import plain_constraints as plain
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import decoders

from epo_jax.models.token_bytes import TokenBytes, token_bytes

TOKENIZERS = {
    "byte-level": plain.byte_level(),
    "sentencepiece": plain.sentencepiece(strip=False),
    "sentencepiece, stripped": plain.sentencepiece(strip=True),
    "words": plain.of_words(mark=False),
    "metaspace": plain.of_words(mark=True),
}
HELD = {name: token_bytes(tokenizer, len(tokenizer) + 3) for name, tokenizer in TOKENIZERS.items()}


def joined(held: TokenBytes, ids: list[int]) -> str:
    """The text of tokens by their bytes."""
    parts = [(held.anywhere if place else held.first)[index] for place, index in enumerate(ids)]
    text, run = b"", b""
    for index, part in zip([*ids, None], [*parts, b""], strict=True):
        if index is not None and held.lone[index]:
            run += part
            continue
        try:
            run.decode()
            text += run
        except UnicodeDecodeError:
            text += "\ufffd".encode() * len(run)
        text, run = text + part, b""
    return text.decode(errors="replace")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(TOKENIZERS)), st.data())
def test_bytes_that_are_joined_are_what_decoding_gives(name, data):
    tokenizer, held = TOKENIZERS[name], HELD[name]
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=9))
    # A space that is stripped may be part of a run of bytes that is no text.
    assume(held.first[ids[0]] != b"" or not held.lone[ids[0]])
    assert joined(held, ids) == plain.text_of(tokenizer, ids)


def test_rows_without_a_token_have_no_bytes():
    for name, tokenizer in TOKENIZERS.items():
        assert HELD[name].anywhere[len(tokenizer) :] == (b"", b"", b"")


def test_only_bytes_of_their_own_are_lone():
    assert not HELD["byte-level"].lone.any()
    assert HELD["sentencepiece"].lone.sum() == 256
    assert HELD["sentencepiece"].anywhere[int(np.flatnonzero(HELD["sentencepiece"].lone)[0x41])] == b"A"


@pytest.mark.parametrize("step", [decoders.WordPiece(), decoders.CTC(), decoders.Strip("x", 1, 0)])
def test_a_decoder_that_is_not_known_is_named(step):
    tokenizer = plain.of_words(mark=False)
    tokenizer.backend_tokenizer.decoder = step
    assert token_bytes(tokenizer, len(tokenizer)).unknown == type(step).__name__


def test_the_embedded_models_tokens_are_those_that_decoding_gives(lm):
    held = token_bytes(lm.tokenizer, lm.config.vocab_size)
    rng = np.random.default_rng(0)
    for ids in rng.integers(0, lm.config.vocab_size, (200, 12)).tolist():
        assert b"".join(held.anywhere[index] for index in ids).decode(errors="replace") == plain.text_of(
            lm.tokenizer, ids
        )


def test_whole_are_tokens_whose_text_alone_is_no_part_of_a_character():
    for name, tokenizer in TOKENIZERS.items():
        whole = HELD[name].whole
        for index in range(len(tokenizer)):
            assert whole[index] == ("\ufffd" not in joined(HELD[name], [index])), (name, index)
    assert not HELD["byte-level"].whole.all()


def test_words_are_opened_by_tokens_of_a_space_and_letters():
    for name, tokenizer in TOKENIZERS.items():
        opens = HELD[name].opens_word
        for index in range(len(tokenizer)):
            text = HELD[name].anywhere[index].decode(errors="replace")
            assert opens[index] == (text.startswith(" ") and text[1:].isalpha()), (name, index)
