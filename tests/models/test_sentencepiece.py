"""SentencePiece's BPE from GGUF files, against the sentencepiece library and against plain Python."""

from __future__ import annotations

import functools
import io
import json
import re
import runpy
from pathlib import Path

import gguf
import plain_sentencepiece
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epo_jax.errors import EpoError
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.tokenizers import adds_bos, allowed_tokens, token_texts, tokenizer_from_folder, tokenizer_from_gguf

VARIED = runpy.run_path(str(Path(__file__).with_name("varied_strings.py")))["varied_strings"]
TEXTS = VARIED(2000, 0)
RUNS = ["a" * 50, "ab" * 25, "aab" * 20, "  " * 9 + "x", "thethethe", "<0x41>", " " * 70, "x" + " " * 33 + "the"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
KEY = "tokenizer.ggml."
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
OWN = ("<mine>", "<mine>2", "▁▁", "▁▁▁", "▁▁▁▁▁")


@functools.cache
def trained(**options):
    """A vocabulary of 3,500 tokens, trained by SentencePiece on varied strings."""
    model = io.BytesIO()
    lines = [re.sub(r"[\0\r\n]", " ", text) for text in VARIED(600, 1)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in lines if line.strip()),
        model_writer=model,
        model_type="bpe",
        vocab_size=3500,
        character_coverage=0.98,
        normalization_rule_name="identity",
        minloglevel=2,
        **{"byte_fallback": True, "remove_extra_whitespaces": False, "add_dummy_prefix": False} | options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def metadata_of(model, **changes):
    """The model as llama.cpp's converter writes it; a change to None takes the key away."""

    def kind(index):
        tests = {UNKNOWN: model.is_unknown, CONTROL: model.is_control, UNUSED: model.is_unused, BYTE: model.is_byte}
        own = USER_DEFINED if model.id_to_piece(index) in OWN else NORMAL
        return next((kind for kind, test in tests.items() if test(index)), own)

    size = range(model.get_piece_size())
    keys = {
        "model": "llama",
        "pre": "default",
        "tokens": [model.id_to_piece(index) for index in size],
        "token_type": [kind(index) for index in size],
        "scores": [model.get_score(index) for index in size],
        "bos_token_id": model.bos_id(),
        "eos_token_id": model.eos_id(),
        "unknown_token_id": model.unk_id(),
        "add_space_prefix": False,
    } | changes
    return {KEY + name: value for name, value in keys.items() if value is not None}


def tokenizer_of(model, **changes):
    return tokenizer_from_gguf(metadata_of(model, **changes), "spm.gguf")


@functools.cache
def pair(prefix, byte_fallback):
    model = trained(add_dummy_prefix=prefix, byte_fallback=byte_fallback)
    return model, tokenizer_of(model, add_space_prefix=prefix)


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def tokens(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(encode(tokenizer, text))


# Against the sentencepiece library

PREFIX_AND_BYTES = pytest.mark.parametrize(
    ("prefix", "byte_fallback"), [(True, True), (True, False), (False, True), (False, False)]
)


@PREFIX_AND_BYTES
def test_ids_of_varied_strings_are_the_librarys_and_decoding_gives_the_text_back(prefix, byte_fallback):
    model, tokenizer = pair(prefix, byte_fallback)
    texts = [*TEXTS, *RUNS]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert rows == [model.encode(text) for text in texts]
    if byte_fallback:
        assert [tokenizer.decode(row) for row in rows] == texts


PIECES = ["the", "a", "ab", " ", "  ", "▁", "\n", "\t", "é", "e\u0301", "😀", "\0", "<0x41>", "<unk", "日本"]
ANY_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=20).map("".join),
)


@PREFIX_AND_BYTES
@given(text=ANY_TEXT)
@settings(max_examples=150, deadline=None)
def test_ids_of_any_text_are_the_librarys(prefix, byte_fallback, text):
    model, tokenizer = pair(prefix, byte_fallback)
    row = encode(tokenizer, text)
    assert row == model.encode(text)
    if byte_fallback:
        # SentencePiece writes a space as U+2581, so that character reads as a space.
        assert tokenizer.decode(row) == text.replace("▁", " ")


@pytest.mark.parametrize("spaces", ["▁", " "])
def test_user_defined_tokens_are_cut_out_first_whichever_way_the_file_writes_their_spaces(spaces):
    model = trained(user_defined_symbols=",".join(OWN))
    names = [name.replace("▁", spaces) if name in OWN else name for name in metadata_of(model)[KEY + "tokens"]]
    tokenizer = tokenizer_of(model, tokens=names)
    texts = [*TEXTS, *RUNS, "<mine>2the   the<mine><mine>", " <mine>  <mine> 2", "the" + " " * 9 + "<mine>3"]
    assert tokenizer(texts, add_special_tokens=False)["input_ids"] == [model.encode(text) for text in texts]
    assert [tokenizer.decode(encode(tokenizer, text)) for text in texts] == texts
    own = model.piece_to_id("<mine>")
    assert not tokenizer.added_tokens_decoder[own].special
    assert allowed_tokens(tokenizer, own + 1)[own]


@pytest.mark.parametrize("prefix", [True, False])
def test_extra_spaces_are_removed_where_the_file_says_so(prefix):
    model = trained(remove_extra_whitespaces=True, add_dummy_prefix=prefix)
    tokenizer = tokenizer_of(model, remove_extra_whitespaces=True, add_space_prefix=prefix)
    texts = [*TEXTS, *RUNS, "", " ", "  the   the ", "\n  the \n"]
    assert tokenizer(texts, add_special_tokens=False)["input_ids"] == [model.encode(text) for text in texts]
    assert encode(tokenizer, "  the   the ") == encode(tokenizer, "the the")


def test_a_tokenizer_from_a_written_file_is_the_same_and_so_is_its_saved_copy(tmp_path):
    model, expected = pair(True, True)
    writer = gguf.GGUFWriter(tmp_path / "spm.gguf", "llama")
    for key, value in metadata_of(model, add_space_prefix=True).items():
        add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, list: writer.add_array}
        add[type(value)](key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    read = tokenizer_from_gguf(open_gguf(tmp_path / "spm.gguf").metadata, "spm.gguf")
    read.save_pretrained(tmp_path)
    for tokenizer in (read, tokenizer_from_folder(tmp_path)):
        assert tokenizer(TEXTS)["input_ids"] == expected(TEXTS)["input_ids"]
        assert adds_bos(tokenizer)
        assert token_texts(tokenizer, range(3500)) == token_texts(expected, range(3500))


# Against plain Python


@st.composite
def vocabularies(draw):
    """Tokens over two letters and the space with scores of all orders; runs of the space may share one."""
    union = st.text("ab▁", min_size=2, max_size=5).filter(lambda token: set(token) != {"▁"})
    unions = draw(st.lists(union, max_size=12, unique=True))
    ranks = draw(st.permutations(range(len(unions))))
    runs = draw(st.sets(st.integers(2, 16)))
    lowest = draw(st.sampled_from([-1e9, 5.5]))
    letters = dict.fromkeys("ab▁", 0.0)
    return (
        letters
        | dict(zip(unions, map(float, ranks), strict=True))
        | {"▁" * length: lowest for length in sorted(runs, key=lambda length: length % 5)}
    )


def tokenizer_of_scores(scores):
    names = [*BYTES, *scores]
    keys = {
        "model": "llama",
        "tokens": names,
        "token_type": [BYTE] * 256 + [NORMAL] * len(scores),
        "scores": [0.0] * 256 + list(scores.values()),
        "add_space_prefix": False,
        "add_bos_token": False,
    }
    return tokenizer_from_gguf({KEY + name: value for name, value in keys.items()}, "scores.gguf")


@given(scores=vocabularies(), texts=st.lists(st.text("ab  c", max_size=40), min_size=5, max_size=5))
@example(scores={"▁": 0.0, "▁▁": -1e9, "▁▁▁": -1e9, "a": 0.0, "▁a": 1.0}, texts=["    ", "     a", " " * 7])
@example(scores={"a": 0.0, "b": 0.0, "ab": 1.0, "ba": 2.0, "aba": 3.0}, texts=["ababa", "abab", "baba", "aabaa"])
@settings(max_examples=300, deadline=None)
def test_tokens_are_those_of_merging_the_best_and_of_equals_the_leftmost(scores, texts):
    tokenizer = tokenizer_of_scores(scores)
    for text in texts:
        assert tokens(tokenizer, text) == plain_sentencepiece.encode(text, scores)


@pytest.mark.parametrize(("prefix", "byte_fallback"), [(True, True), (False, False)])
def test_the_plain_oracle_agrees_with_the_library(prefix, byte_fallback):
    model = trained(add_dummy_prefix=prefix, byte_fallback=byte_fallback, user_defined_symbols="<mine>")
    metadata = metadata_of(model)
    kinds = zip(metadata[KEY + "tokens"], metadata[KEY + "token_type"], metadata[KEY + "scores"], strict=True)
    scores = {token: score for token, kind, score in kinds if kind == NORMAL}
    for text in [*TEXTS[:500], *RUNS, *([] if prefix else ["the<mine>the"])]:
        ours = plain_sentencepiece.encode(text, scores, ["<mine>"], prefix, None if byte_fallback else "<unk>")
        assert [model.piece_to_id(token) for token in ours] == model.encode(text)


# Special tokens


def test_bos_is_added_and_a_space_put_before_the_text_where_the_file_does_not_say():
    model, _ = pair(True, True)
    tokenizer = tokenizer_of(model, add_space_prefix=None, pre=None)
    assert adds_bos(tokenizer)
    row = tokenizer("the \U0001d518")["input_ids"]
    assert row == [model.bos_id(), *model.encode("the \U0001d518")]
    assert token_texts(tokenizer, row) == ["<s>", " the", " ", r"\xf0", r"\x9d", r"\x94", r"\x98"]
    assert token_texts(tokenizer, [model.piece_to_id("<0x0A>")]) == ["\n"]
    allowed = allowed_tokens(tokenizer, len(tokenizer) + 2)
    assert allowed.nonzero()[0].tolist() == list(range(3, len(tokenizer)))
    both = tokenizer_of(model, add_bos_token=False, add_eos_token=True)
    assert both("the")["input_ids"] == [*encode(both, "the"), model.eos_id()]
    assert tokenizer("")["input_ids"] == [model.bos_id()]


def test_text_after_an_added_token_gets_its_space_as_in_llama_cpp_and_transformers():
    model, _ = pair(True, True)
    changed = metadata_of(model, add_space_prefix=True)
    changed[KEY + "tokens"][300], changed[KEY + "token_type"][300] = "<mine>", USER_DEFINED
    tokenizer = tokenizer_from_gguf(changed, "spm.gguf")
    the = model.piece_to_id("▁the")
    assert encode(tokenizer, "the<mine>the</s>the") == [the, 300, the, model.eos_id(), the]
    assert tokenizer.decode([the, model.eos_id()], skip_special_tokens=True) == "the"


def test_control_and_byte_tokens_are_not_made_of_characters():
    names = ["<s>", "<", "s", ">", "<s", "0", "x", "4", "1", "<0", "<0x", "<0x4", "<0x41"]
    scores = dict.fromkeys(names[1:], 0.0) | {"<s": -1.0, "<0": -2.0, "<0x": -3.0, "<0x4": -4.0, "<0x41": -5.0}
    metadata = {
        KEY + "model": "llama",
        KEY + "tokens": [*BYTES, *names],
        KEY + "token_type": [BYTE] * 256 + [CONTROL] + [NORMAL] * 12,
        KEY + "scores": [9.0] * 257 + list(scores.values()),
        KEY + "bos_token_id": 256,
        KEY + "add_space_prefix": False,
    }
    tokenizer = tokenizer_from_gguf(metadata, "spm.gguf")
    assert tokens(tokenizer, "<0x41>") == ["<0x41", ">"]
    # As such it is read in the text, as by transformers.
    assert tokens(tokenizer, "<s><s") == ["<s>", "<s"]


def test_phi_3s_special_tokens_swallow_the_white_space_after_them():
    model, _ = pair(True, True)
    changed = metadata_of(model, add_space_prefix=True)
    changed[KEY + "tokens"][300], changed[KEY + "token_type"][300] = "<|user|>", CONTROL
    the = model.piece_to_id("▁the")
    swallowing = tokenizer_from_gguf(changed | {"general.architecture": "phi3"}, "phi3.gguf")
    assert encode(swallowing, "<|user|> \nthe<s> the") == [300, the, 1, *model.encode(" the")]
    keeping = tokenizer_from_gguf(changed | {"general.architecture": "llama"}, "llama.gguf")
    assert encode(keeping, "<|user|> \nthe") == [300, *model.encode(" \nthe")]


# Bad files


SMALL = {
    "model": "llama",
    "tokens": ["<unk>", "<s>", *BYTES, "a", "b", "▁", "ab", "ba", "▁▁", "▁▁▁"],
    "token_type": [UNKNOWN, CONTROL] + [BYTE] * 256 + [NORMAL] * 7,
    "scores": [0.0] * 261 + [-1.0, -2.0, -1e9, -1e9],
    "bos_token_id": 1,
    "unknown_token_id": 0,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [0.0] * 265}, "tokenizer.ggml.scores gives '▁▁▁' and 'ab' the same score 0, which leaves open"),
        ({"scores": [0.0] * 261 + [-3.0] * 4}, "tokenizer.ggml.scores gives '▁▁▁' and 'ab' the same score -3, which"),
        ({"scores": [0.0] * 264 + [float("nan")]}, "tokenizer.ggml.scores of token 264 is nan, not a finite number"),
        ({"scores": [0.0] * 264 + [float("inf")]}, "tokenizer.ggml.scores of token 264 is inf, not a finite number"),
        ({"scores": [0.0] * 264}, "tokenizer.ggml.scores has 264 entries and tokenizer.ggml.tokens 265"),
        ({"scores": [0] * 265}, "tokenizer.ggml.scores holds 0 where every entry is a float"),
        ({"scores": None}, "the GGUF metadata lacks tokenizer.ggml.scores"),
        ({"pre": "llama-bpe"}, "tokenizer.ggml.pre is 'llama-bpe', which is for byte-level vocabularies; with"),
        ({"precompiled_charsmap": [1, 2]}, "tokenizer.ggml.precompiled_charsmap rewrites text before it is cut, which"),
        ({"add_space_prefix": 1}, "tokenizer.ggml.add_space_prefix holds a int where a bool is read"),
        ({"remove_extra_whitespaces": "no"}, "tokenizer.ggml.remove_extra_whitespaces holds a str where a bool is"),
        ({"bos_token_id": None}, "BOS is to be added, but there is no tokenizer.ggml.bos_token_id"),
        ({"unknown_token_id": 265}, "tokenizer.ggml.unknown_token_id is 265, outside the vocabulary 0 to 264"),
        (
            {"token_type": [NORMAL] * 265, "unknown_token_id": None},
            "has neither the 256 byte tokens <0x00> to <0xFF> nor a tokenizer.ggml.unknown_token_id",
        ),
    ],
)
def test_a_bad_sentencepiece_file_is_one_clear_line(changes, message):
    def read(**changes):
        keys = {KEY + name: value for name, value in (SMALL | changes).items() if value is not None}
        return tokenizer_from_gguf(json.loads(json.dumps(keys)), "small.gguf")

    assert tokens(read(), "aba  b") == ["▁", "ab", "a", "▁▁", "b"]
    with pytest.raises(EpoError, match="^small.gguf: " + re.escape(message)) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)
