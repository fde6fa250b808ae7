"""Banned texts as a table of states, held against decoding in plain Python."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import plain_constraints as plain
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from epo_jax.constraints import Constraints, rules_of
from epo_jax.constraints.text_automaton import STATES, text_automaton
from epo_jax.epo.automaton import Automaton
from epo_jax.errors import EpoError
from epo_jax.models.token_bytes import token_bytes

TOKENIZERS = {
    "byte-level": plain.byte_level(),
    "sentencepiece": plain.sentencepiece(strip=False),
    "sentencepiece, stripped": plain.sentencepiece(strip=True),
    "words": plain.of_words(mark=False),
    "metaspace": plain.of_words(mark=True),
}
HELD = {name: token_bytes(tokenizer, len(tokenizer)) for name, tokenizer in TOKENIZERS.items()}
LENGTH = 5
# Of letters that are written in several ways: long s, Kelvin sign, sharp s, n after an apostrophe, I with a dot.
TEXTS = st.one_of(
    st.sampled_from(
        ["dog", " dog", "g d", "do gé", "ss", "s", "straße", "STRASSE", "K", "ŉ", "İ", "i̇", "ﬀ", "É", "好"]
    ),
    st.sampled_from(["好好", "😀", "the", "> d", "<s>", "  ", "ſt", "Σς", "\n"]),
    st.text(alphabet="dogstkſßKŉ éÉ好", min_size=1, max_size=4),
)


def tokens_of(name: str, texts: list[str]) -> st.SearchStrategy[int]:
    """Tokens, most of which have something to do with the texts."""
    written = {
        byte for text in texts for form in (text, text.upper(), text.lower(), text.casefold()) for byte in form.encode()
    } | set("ſßKŉ".encode())
    near = [index for index, token in enumerate(HELD[name].anywhere) if token and set(token) <= written]
    return st.one_of(*([st.sampled_from(near)] if near else []), st.integers(0, len(HELD[name].anywhere) - 1))


def around(name: str, tokens: st.SearchStrategy[int]) -> st.SearchStrategy[list[int]]:
    """Frozen tokens; where a run of bytes is text only as a whole, the run's end is theirs."""
    whole = name.startswith("sentencepiece")
    found = st.lists(tokens, max_size=3)
    return found.filter(lambda ids: "\ufffd" not in plain.text_of(TOKENIZERS[name], ids)) if whole else found


def automaton_of(name: str, texts: list[str], prefix: list[int], suffix: list[int]) -> Automaton:
    allowed = np.ones(len(HELD[name].anywhere), np.bool_)
    return text_automaton(texts, HELD[name], allowed, LENGTH, prefix, suffix)


def broken(found: Automaton, prompts: list[list[int]]) -> list[bool]:
    """What `Automaton.breaks` says, looked up without a device."""
    table, bad = np.asarray(found.table), np.asarray(found.bad)
    states = np.full(len(prompts), int(found.start))
    for tokens in np.asarray(prompts, np.int32).T:
        states = table[states, tokens]
    return bad[states].tolist()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(TOKENIZERS)), st.lists(TEXTS, min_size=1, max_size=3), st.data())
def test_a_text_is_found_where_decoding_finds_it_and_where_it_reaches_out_of_the_prompt(name, texts, data):
    # Words that are joined by spaces make no prompt without one.
    assume(name != "words" or " " not in texts)
    tokens = tokens_of(name, texts)
    prefix, suffix = (data.draw(around(name, tokens)) for _ in range(2))
    found = automaton_of(name, texts, prefix, suffix)
    prompts = data.draw(st.lists(st.lists(tokens, min_size=LENGTH, max_size=LENGTH), min_size=6, max_size=6))
    expected = [plain.holds(TOKENIZERS[name], prompt, texts, prefix, suffix) for prompt in prompts]
    assert broken(found, prompts) == expected


def ids_of(name: str, pieces: list[str | bytes]) -> list[int]:
    """Tokens of these texts; one byte alone is the token that stands for it."""
    held = HELD[name]

    def token(piece: str | bytes) -> int:
        lone = isinstance(piece, bytes) and bool(held.lone.any())
        text = piece.encode() if isinstance(piece, str) else piece
        return next(index for index, told in enumerate(held.anywhere) if told == text and held.lone[index] == lone)

    return [token(piece) for piece in pieces]


@pytest.mark.parametrize(
    ("name", "text", "prefix", "prompt", "suffix", "expected"),
    [
        # A character whose first byte is the prompt's and whose second one is the suffix's, and the other way round.
        ("byte-level", "ss", [], ["a", "a", "a", "a", b"\xc3"], [b"\x9f"], True),
        ("byte-level", "ss", [b"\xc3"], [b"\x9f", "a", "a", "a", "a"], [], True),
        ("byte-level", "ss", [b"\xc3"], ["s", "a", "a", "a", "a"], [], False),
        # What begins a character and is none does not hide what follows, and parts what stands around it.
        ("byte-level", "ss", [], ["a", b"\xc3", "s", "s", "a"], [], True),
        ("byte-level", "ss", [], ["a", "s", b"\xc3", "s", "a"], [], False),
        ("byte-level", "ſS", [], [b"\xc3", b"\x9f", "a", "a", "a"], [], True),
        ("byte-level", "sss", [], [b"\xc3", b"\x9f", "a", "a", "a"], ["s"], False),
        ("byte-level", "sss", [], ["a", "a", "a", b"\xc3", b"\x9f"], ["s"], True),
        ("byte-level", "sa", ["s"], ["a", "b", "b", "b", "b"], [], True),
        ("byte-level", "ss", ["s", "s"], ["a", "b", "b", "b", "b"], ["s", "s"], False),
        ("byte-level", "sss", ["s", "s"], ["s", "b", "b", "b", "b"], [], True),
        # A run of bytes is text as a whole or not at all.
        ("sentencepiece", "ds", [], ["d", b"\xc5", "s", "a", "a"], [], False),
        ("sentencepiece", "ds", [], ["d", b"\xc5", b"\xbf", "a", "a"], [], True),
        ("sentencepiece", "ds", [], ["d", b"s", b"\xff", "a", "a"], [], False),
        ("sentencepiece", "ds", [], [b"d", b"s", "a", b"\xff", "a"], [], True),
        ("sentencepiece", "ds", [], ["a", "a", "a", b"d", b"s"], [b"\xff"], False),
        ("sentencepiece", "ds", [], ["a", "a", "a", b"d", b"s"], [b"\xe5", b"\xa5"], False),
        ("sentencepiece", "ds", [], ["a", "a", "a", b"d", b"s"], [b"\xe5", b"\xa5", b"\xbd"], True),
        ("sentencepiece", "ds", [], ["a", "a", "a", b"\xe5", b"d"], ["s"], False),
        ("sentencepiece", " d", [], [" d", "a", "a", "a", "a"], [], True),
        ("sentencepiece, stripped", " d", [], [" d", "a", "a", "a", "a"], [], False),
        ("sentencepiece, stripped", " d", ["a"], [" d", "a", "a", "a", "a"], [], True),
    ],
)
def test_characters_that_are_spread_over_tokens_are_what_decoding_makes_of_them(
    name, text, prefix, prompt, suffix, expected
):
    prefix, prompt, suffix = (ids_of(name, pieces) for pieces in (prefix, prompt, suffix))
    assert broken(automaton_of(name, [text], prefix, suffix), [prompt]) == [expected]
    assert plain.holds(TOKENIZERS[name], prompt, [text], prefix, suffix) == expected


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(["byte-level", "sentencepiece, stripped"]), st.lists(TEXTS, min_size=1, max_size=3), st.data())
def test_a_token_is_usable_exactly_where_the_whole_prompt_with_it_has_no_text(name, texts, data):
    # Words that are joined by spaces make no prompt without one.
    assume(name != "words" or " " not in texts)
    tokens = tokens_of(name, texts)
    prefix, suffix = (data.draw(around(name, tokens)) for _ in range(2))
    found = automaton_of(name, texts, prefix, suffix)
    prompts = np.asarray(
        data.draw(st.lists(st.lists(tokens, min_size=5, max_size=5), min_size=2, max_size=2)), np.int32
    )
    usable = np.asarray(jax.jit(Automaton.usable)(found, prompts))
    vocabulary = usable.shape[-1]
    replaced = np.repeat(prompts[:, None, None], LENGTH, axis=1).repeat(vocabulary, axis=2)
    for position in range(LENGTH):
        replaced[:, position, :, position] = np.arange(vocabulary)
    breaks = np.asarray(jax.jit(Automaton.breaks)(found, replaced.reshape(-1, LENGTH)))
    np.testing.assert_array_equal(usable, ~breaks.reshape(usable.shape))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["byte-level", "words"]), st.lists(TEXTS, min_size=1, max_size=3), st.data())
def test_random_prompts_have_no_text_and_use_allowed_tokens_alone(name, texts, data):
    tokens = tokens_of(name, texts)
    prefix, suffix = (data.draw(around(name, tokens)) for _ in range(2))
    count = len(HELD[name].anywhere)
    kept = data.draw(st.lists(tokens, min_size=2, max_size=6, unique=True))
    allowed = np.zeros(count, np.bool_)
    allowed[kept] = True
    try:
        found = text_automaton(texts, HELD[name], allowed, LENGTH, prefix, suffix)
    except EpoError:
        # No prompt that is drawn from these tokens alone would do.
        for prompt in np.random.default_rng(0).choice(kept, (50, LENGTH)).tolist():
            assert plain.holds(TOKENIZERS[name], prompt, texts, prefix, suffix)
        return
    draw = jax.jit(Automaton.random_prompts, static_argnums=(3, 4))
    prompts = np.asarray(draw(found, jax.random.key(data.draw(st.integers(0, 99))), jnp.asarray(allowed), 8, LENGTH))
    assert allowed[prompts].all()
    for prompt in prompts.tolist():
        assert not plain.holds(TOKENIZERS[name], prompt, texts, prefix, suffix)


def test_texts_that_leave_no_prompt_are_refused_and_ones_that_leave_a_way_are_not():
    tokenizer, held = TOKENIZERS["byte-level"], HELD["byte-level"]
    d, o, g = (tokenizer.convert_tokens_to_ids(letter) for letter in "dog")
    allowed = np.zeros(len(held.anywhere), np.bool_)
    allowed[[d, o]] = True
    with pytest.raises(EpoError, match=r"^--ban_text: every prompt of 5 allowed tokens"):
        text_automaton(["dd", "do", "o"], held, allowed, LENGTH)
    # Only o may come last, so that what comes before is bound as well.
    found = text_automaton(["oo", "dg"], held, allowed, LENGTH, suffix=[g])
    prompts = np.asarray(found.random_prompts(jax.random.key(0), jnp.asarray(allowed), 50, LENGTH))
    assert (prompts[:, -1] == o).all()
    assert (prompts[:, -2] == d).all()
    assert len(np.unique(prompts[:, 0])) == 2


def test_random_prompts_are_uniform_over_the_tokens_that_may_follow():
    tokenizer, held = TOKENIZERS["byte-level"], HELD["byte-level"]
    d, o, g = (tokenizer.convert_tokens_to_ids(letter) for letter in "dog")
    allowed = np.zeros(len(held.anywhere), np.bool_)
    allowed[[d, o, g]] = True
    found = text_automaton(["do"], held, allowed, LENGTH)
    prompts = np.asarray(found.random_prompts(jax.random.key(0), jnp.asarray(allowed), 6000, LENGTH))
    for letter in (d, o, g):
        assert abs((prompts[:, 0] == letter).mean() - 1 / 3) < 0.03
    after = prompts[:, 1:][prompts[:, :-1] == d]
    assert abs((after == g).mean() - 1 / 2) < 0.03
    assert not (after == o).any()


def test_frozen_text_of_the_template_may_hold_what_prompts_may_not():
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer.encode("a dog", add_special_tokens=False)
    o, g, s = (tokenizer.convert_tokens_to_ids(letter) for letter in "ogs")
    found = automaton_of("byte-level", ["dog", "dogs", "goog"], ids, ids)
    assert found.breaks(jnp.asarray([[o] * 5, [s] * 5, [o, o, g, o, o]], jnp.int32)).tolist() == [False, True, True]


def test_two_lists_of_texts_share_a_compilation():
    tables = [
        automaton_of("byte-level", texts, [], []).table
        for texts in (["dog"], ["straße", "the quick", "😀"], ["好"] * 3)
    ]
    assert {(table.shape, str(table.dtype)) for table in tables} == {((STATES, 301), "uint8")}


def test_many_texts_make_a_table_of_a_larger_type_that_is_right_too():
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("xyz"), 7)) for _ in range(160)]
    tokenizer = TOKENIZERS["byte-level"]
    ids = [tokenizer.convert_tokens_to_ids(letter) for letter in texts[17].upper()]
    longer = text_automaton(texts, HELD["byte-level"], np.ones(len(HELD["byte-level"].anywhere), np.bool_), 7)
    assert longer.table.dtype == np.uint16
    assert len(longer.table) > 256
    other = tokenizer.convert_tokens_to_ids("a")
    assert broken(longer, [ids, [*ids[:-1], other], [other, *ids[1:]]]) == [True, False, False]


def test_texts_that_make_too_large_a_table_are_refused(monkeypatch):
    monkeypatch.setattr("epo_jax.constraints.text_automaton.LARGEST_TABLE", 2**14)
    with pytest.raises(EpoError, match=r"^--ban_text: 1 texts make a table of .* MiB"):
        automaton_of("byte-level", ["dog"], [], [])


def test_a_tokenizer_whose_texts_are_not_known_is_refused():
    tokenizer = plain.of_words(mark=False)
    tokenizer.backend_tokenizer.decoder = plain.decoders.WordPiece()
    with pytest.raises(EpoError, match=r"^--ban_text: this tokenizer decodes by WordPiece"):
        rules_of(Constraints(ban_text=("dog",)), tokenizer, np.ones(len(tokenizer), np.bool_), 5)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.data())
def test_the_embedded_models_tokens_are_found_in_as_decoding_finds_them(lm, texts, data):
    held = token_bytes(lm.tokenizer, lm.config.vocab_size)
    written = {byte for text in texts for form in (text, text.upper()) for byte in form.encode()}
    near = [index for index, token in enumerate(held.anywhere) if token and set(token) <= written]
    tokens = st.one_of(*([st.sampled_from(near)] if near else []), st.integers(0, lm.config.vocab_size - 1))
    prefix, suffix = (data.draw(st.lists(tokens, max_size=3)) for _ in range(2))
    allowed = np.ones(lm.config.vocab_size, np.bool_)
    found = text_automaton(texts, held, allowed, 6, prefix, suffix)
    prompts = data.draw(st.lists(st.lists(tokens, min_size=6, max_size=6), min_size=10, max_size=10))
    expected = [plain.holds(lm.tokenizer, prompt, texts, prefix, suffix) for prompt in prompts]
    assert broken(found, prompts) == expected
