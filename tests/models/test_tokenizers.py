from __future__ import annotations

import copy
import io
import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import regex
import sentencepiece
from transformers import AutoTokenizer

from epo_jax.errors import EpoError
from epo_jax.models.embedded import embedded_file
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.tokenizers import adds_bos, allowed_tokens, token_texts, tokenizer_from_gguf

# What the tests share with a script lies in files of its own; they are run by their paths, as tests are no package.
HERE = Path(__file__).parent
DIFFERENCES = HERE.parents[1] / "docs" / "tokenizer_differences.md"
PLAIN = SimpleNamespace(**runpy.run_path(str(HERE / "plain_bpe.py")))
VARIED = runpy.run_path(str(HERE / "varied_strings.py"))["varied_strings"]
TEXTS = VARIED(2000, 0)
GOLDEN = json.loads((HERE / "tokenizer_golden.json").read_text())

PLAIN_TYPE, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
KEY = "tokenizer.ggml."


@pytest.fixture(scope="session")
def path():
    return embedded_file("smollm2-135m")


@pytest.fixture(scope="session")
def metadata(path):
    return open_gguf(path).metadata


@pytest.fixture(scope="session")
def tokenizer(metadata, path):
    return tokenizer_from_gguf(metadata, str(path))


@pytest.fixture(scope="session")
def conversion(path):
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)


@pytest.fixture(scope="session")
def ids(metadata):
    return {token: index for index, token in enumerate(metadata[KEY + "tokens"])}


@pytest.fixture(scope="session")
def ranks(metadata):
    return {tuple(line.split(" ")): rank for rank, line in enumerate(metadata[KEY + "merges"])}


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# The embedded model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello world! 123", [19556, 905, 17, 216, 33, 34, 35]),
        ("The capital of France is", [504, 3575, 282, 4649, 314]),
        ("Café déjà vu.", [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]),
    ],
)
def test_known_texts_have_their_known_ids(tokenizer, text, expected):
    assert tokenizer(text)["input_ids"] == expected


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: ascii(row["text"])[:30])
def test_ids_are_the_golden_ones_of_the_plain_python_oracle(tokenizer, row):
    assert tokenizer(row["text"])["input_ids"] == row["ids"]


def test_the_golden_file_is_what_the_oracle_makes(ids, ranks):
    assert [row["text"] for row in GOLDEN] == list(PLAIN.GOLDEN_TEXTS)
    for row in GOLDEN:
        assert PLAIN.encode(row["text"], PLAIN.PATTERNS["smollm"], ids, ranks) == row["ids"]


@pytest.mark.parametrize("pre", PLAIN.PATTERNS)
def test_every_pre_tokenizer_agrees_with_the_plain_python_oracle(metadata, ids, ranks, pre):
    tokenizer = tokenizer_from_gguf({**metadata, KEY + "pre": pre}, "x.gguf")
    whole_words = pre == "llama-bpe"
    expected = [PLAIN.encode(text, PLAIN.PATTERNS[pre], ids, ranks, whole_words) for text in TEXTS]
    assert tokenizer(TEXTS)["input_ids"] == expected


def test_digits_stand_apart_from_each_other_and_from_the_space_before_them(tokenizer):
    assert token_texts(tokenizer, encode(tokenizer, "in 2024  7")) == ["in", " ", "2", "0", "2", "4", "  ", "7"]


def test_transformers_conversion_differs_only_where_its_pre_tokenizer_cuts_numerals_otherwise(tokenizer, conversion):
    texts = TEXTS
    if conversion.backend_tokenizer.model.unk_token is not None:
        # Older versions of transformers put the unknown token where a character has no token, which newer ones leave
        # out as we do; with them, such texts say nothing of the pre-tokenizer.
        texts = [text for text in TEXTS if conversion.unk_token_id not in conversion(text)["input_ids"]]
    ours, theirs = tokenizer(texts)["input_ids"], conversion(texts)["input_ids"]
    differing = [text for text, mine, other in zip(texts, ours, theirs, strict=True) if mine != other]
    assert len(differing) > 150
    for text in differing:
        # A numeral with whitespace or another numeral before it: what the rule cuts and GPT-2's alone does not.
        assert regex.search(r"[\s\p{N}]\p{N}", text)
        assert PLAIN.cut(text, PLAIN.PATTERNS["smollm"]) != PLAIN.cut(text, PLAIN.PATTERNS["gpt-2"])
    swapped = copy.deepcopy(tokenizer)
    swapped.backend_tokenizer.pre_tokenizer = conversion.backend_tokenizer.pre_tokenizer
    assert swapped(texts)["input_ids"] == theirs
    counts = [int(count) for count in re.findall(r"^\|.* (\d+) \|$", DIFFERENCES.read_text(), re.MULTILINE)]
    assert (counts[0], counts[1] + counts[2], counts[3]) == (len(TEXTS), len(TEXTS), 0)
    if texts is TEXTS:
        assert counts[2] == len(differing)


def test_decoding_gives_every_text_back_but_for_characters_that_the_vocabulary_has_no_bytes_for(tokenizer, ids):
    # SmolLM2's vocabulary lacks six control characters and bytes that no text of Unicode 3.2 has in UTF-8.
    lost = {byte for byte, character in enumerate(PLAIN.byte_characters()) if character not in ids}
    assert {byte for byte in lost if byte < 0x80} == {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D}
    whole = 0
    for text, row in zip(TEXTS, tokenizer(TEXTS)["input_ids"], strict=True):
        assert tokenizer.decode(row) == "".join(c for c in text if not lost.intersection(c.encode()))
        whole += not lost.intersection(text.encode())
    assert whole == 1969


def test_special_tokens_in_text_are_single_tokens_and_marked_special(tokenizer, metadata):
    names = [
        token
        for token, kind in zip(metadata[KEY + "tokens"], metadata[KEY + "token_type"], strict=True)
        if kind == CONTROL
    ]
    assert len(names) == 17
    assert encode(tokenizer, "x".join(names))[::2] == list(range(17))
    row = encode(tokenizer, "<|im_start|>user\nHi<|im_end|>")
    assert (row[0], row[-1]) == (1, 2)
    assert tokenizer.decode(row, skip_special_tokens=True) == "user\nHi"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_the_chat_template_is_kept(tokenizer, metadata):
    assert tokenizer.chat_template == metadata["tokenizer.chat_template"]
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi 12"}], tokenize=False)
    assert text.endswith("<|im_start|>user\nHi 12<|im_end|>\n")


def test_special_tokens_and_rows_without_a_token_are_not_allowed(tokenizer):
    allowed = allowed_tokens(tokenizer, 49160)
    assert allowed.dtype == np.bool_
    assert allowed.shape == (49160,)
    assert not allowed[:17].any()
    assert allowed[17:49152].all()
    assert not allowed[49152:].any()
    assert allowed_tokens(tokenizer, 100).tolist() == allowed[:100].tolist()


def test_the_embedded_model_adds_no_bos(tokenizer):
    assert not adds_bos(tokenizer)


def test_token_texts_show_every_token_and_join_to_the_text(tokenizer, ids):
    texts = token_texts(tokenizer, range(49152))
    assert all(texts)
    assert not any("\ufffd" in text for text in texts)
    for index in range(0, 49152, 7):
        exact = tokenizer.decode([index])
        if "\ufffd" not in exact:
            assert texts[index] == exact
    assert "".join(token_texts(tokenizer, encode(tokenizer, " Cafés cost 12\n"))) == " Cafés cost 12\n"


def test_bytes_of_half_a_character_are_shown_escaped(tokenizer):
    assert token_texts(tokenizer, encode(tokenizer, "a \U0001d518")) == ["a", " ", r"\xf0\x9d", r"\x94", r"\x98"]


@pytest.mark.parametrize("index", [-1, 49152])
def test_an_id_without_a_token_has_no_text(tokenizer, index):
    with pytest.raises(EpoError, match=rf"^ids: {index} has no token; the tokenizer has 49152 tokens$"):
        token_texts(tokenizer, [index])


# SentencePiece files


def sentencepiece_model(prefix, byte_fallback):
    model = io.BytesIO()
    lines = [re.sub(r"[\0\r\n]", " ", text) for text in VARIED(600, 1)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in lines if line.strip()),
        model_writer=model,
        model_type="bpe",
        vocab_size=3500,
        byte_fallback=byte_fallback,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefix,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def sentencepiece_gguf(model, **changes):
    def kind(index):
        tests = {UNKNOWN: model.is_unknown, CONTROL: model.is_control, UNUSED: model.is_unused, BYTE: model.is_byte}
        return next((kind for kind, test in tests.items() if test(index)), PLAIN_TYPE)

    size = range(model.get_piece_size())
    keys = {
        "model": "llama",
        "tokens": [model.id_to_piece(index) for index in size],
        "token_type": [kind(index) for index in size],
        "scores": [model.get_score(index) for index in size],
        "bos_token_id": model.bos_id(),
        "eos_token_id": model.eos_id(),
        "unknown_token_id": model.unk_id(),
    } | changes
    return {KEY + name: value for name, value in keys.items()}


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("byte_fallback", [True, False])
def test_sentencepiece_files_agree_with_the_sentencepiece_library(prefix, byte_fallback):
    model = sentencepiece_model(prefix, byte_fallback)
    tokenizer = tokenizer_from_gguf(sentencepiece_gguf(model, add_space_prefix=prefix), "spm.gguf")
    texts = [*TEXTS, "a" * 50, "ab" * 25, "aab" * 20, "  " * 9 + "x", "thethethe", "<0x41>"]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert rows == [model.encode(text) for text in texts]
    if byte_fallback:
        assert [tokenizer.decode(row) for row in rows] == texts


def test_sentencepiece_files_add_bos_and_a_leading_space_by_default():
    model = sentencepiece_model(True, True)
    tokenizer = tokenizer_from_gguf(sentencepiece_gguf(model), "spm.gguf")
    assert adds_bos(tokenizer)
    row = tokenizer("the \U0001d518")["input_ids"]
    assert row == [model.bos_id(), *model.encode("the \U0001d518")]
    assert token_texts(tokenizer, row) == ["<s>", " the", " ", r"\xf0", r"\x9d", r"\x94", r"\x98"]
    newline = model.piece_to_id("<0x0A>")
    assert token_texts(tokenizer, [newline]) == ["\n"]
    allowed = allowed_tokens(tokenizer, len(tokenizer) + 2)
    assert allowed.nonzero()[0].tolist() == list(range(3, len(tokenizer)))


def test_sentencepiece_files_give_the_text_after_an_added_token_its_space_as_llama_cpp_does():
    model = sentencepiece_model(True, True)
    changed = sentencepiece_gguf(model)
    changed[KEY + "tokens"][300], changed[KEY + "token_type"][300] = "<mine>", USER_DEFINED
    tokenizer = tokenizer_from_gguf(changed, "spm.gguf")
    row = encode(tokenizer, "the<mine>the</s>the")
    the = model.piece_to_id("▁the")
    assert row == [the, 300, the, model.eos_id(), the]
