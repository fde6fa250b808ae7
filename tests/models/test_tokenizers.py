from __future__ import annotations

import copy
import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import regex
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

CONTROL = 3
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
    whole_words = pre in ("llama-bpe", "tekken")
    expected = [PLAIN.encode(text, PLAIN.PATTERNS[pre], ids, ranks, whole_words) for text in TEXTS]
    assert tokenizer(TEXTS)["input_ids"] == expected


# What llama.cpp's converter writes for the families, with how "It's HTTPServer 12345  ½x" is cut.
CUTS = {
    "gpt-2 olmo phi-2": ["It", "'s", " HTTPServer", " 12345", " ", " ½", "x"],
    "smollm": ["It", "'s", " HTTPServer", " ", *"12345", "  ", "½", "x"],
    "llama-bpe llama3 llama-v3 dbrx smaug-bpe": ["It", "'s", " HTTPServer", " ", "123", "45", " ", " ", "½", "x"],
    "qwen2": ["It", "'s", " HTTPServer", " ", *"12345", " ", " ", "½", "x"],
    "tekken": ["It", "'s", " HTTPServer", " ", *"12345", " ", " ", "½", "x"],
    "gpt-4o llama4": ["It's", " HTTPServer", " ", "123", "45", " ", " ", "½", "x"],
    "default": ["It", "'", "s", " HTTPServer", " ", "123", "45", " ", " ", "½", "x"],
}


@pytest.mark.parametrize(("pre", "cut"), [(pre, cut) for names, cut in CUTS.items() for pre in names.split()])
def test_every_familys_pre_tokenizer_cuts_as_it_should(metadata, pre, cut):
    tokenizer = tokenizer_from_gguf({**metadata, KEY + "pre": pre}, "x.gguf")
    text = "It's HTTPServer 12345  ½x"
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in pieces] == cut


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
