from __future__ import annotations

import copy
import json
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from epo_jax.errors import EpoError
from epo_jax.models.tokenizers import adds_bos, allowed_tokens, token_texts, tokenizer_from_folder, tokenizer_from_gguf

HERE = Path(__file__).parent
PLAIN = SimpleNamespace(**runpy.run_path(str(HERE / "plain_bpe.py")))
TEXTS = runpy.run_path(str(HERE / "varied_strings.py"))["varied_strings"](2000, 0)

PLAIN_TYPE, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
KEY = "tokenizer.ggml."


def small_gguf(**changes):
    """A byte-level vocabulary; a change to None takes the key away."""
    named = [("<s>", CONTROL), ("</s>", CONTROL), ("<mine>", USER_DEFINED), ("[PAD3]", UNUSED), ("free", UNUSED)]
    plain = [*PLAIN.byte_characters(), "ab", "abc", "Ġa", "whole"]
    keys = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": [name for name, _ in named] + plain,
        "token_type": [kind for _, kind in named] + [PLAIN_TYPE] * len(plain),
        "merges": ["a b", "ab c", "Ġ a"],
        "bos_token_id": 0,
        "eos_token_id": 1,
    } | changes
    return {KEY + name: value for name, value in keys.items() if value is not None}


def small(**changes):
    return tokenizer_from_gguf(small_gguf(**changes), "small.gguf")


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# Other byte-level files


def test_user_defined_tokens_are_single_tokens_and_not_special():
    tokenizer = small()
    assert token_texts(tokenizer, encode(tokenizer, "ab<mine>abc")) == ["ab", "<mine>", "abc"]
    assert not tokenizer.added_tokens_decoder[2].special
    assert tokenizer.decode([2], skip_special_tokens=True) == "<mine>"
    assert allowed_tokens(tokenizer, 3).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("changes", "bos", "expected"),
    [
        ({}, False, ["ab"]),
        ({"add_bos_token": True}, True, ["<s>", "ab"]),
        ({"add_bos_token": True, "add_eos_token": True}, True, ["<s>", "ab", "</s>"]),
        ({"pre": "llama-bpe"}, True, ["<s>", "ab"]),
        ({"pre": "llama-bpe", "add_bos_token": False}, False, ["ab"]),
        ({"pre": "tekken"}, True, ["<s>", "ab"]),
        ({"pre": "gpt-4o"}, False, ["ab"]),
        ({"pre": "default"}, False, ["ab"]),
        ({"pre": "qwen2", "bos_token_id": None}, False, ["ab"]),
    ],
)
def test_bos_is_added_where_the_file_or_its_rule_says_so(changes, bos, expected):
    tokenizer = small(**changes)
    assert adds_bos(tokenizer) is bos
    assert tokenizer.convert_ids_to_tokens(tokenizer("ab")["input_ids"]) == expected
    assert encode(tokenizer, "ab") == [tokenizer.convert_tokens_to_ids("ab")]


@pytest.mark.parametrize("pre", ["llama-bpe", "tekken"])
def test_llama_3_and_tekken_files_take_a_word_that_is_a_token_whole(pre):
    assert token_texts(small(), encode(small(), "whole")) == list("whole")
    assert token_texts(small(pre=pre), encode(small(pre=pre), "whole")) == ["whole"]


def test_unused_tokens_stay_marked_through_copies_and_saving(tmp_path):
    tokenizer = small()
    tokenizer.save_pretrained(tmp_path)
    for kept in (tokenizer, copy.deepcopy(tokenizer), tokenizer_from_folder(tmp_path)):
        assert allowed_tokens(kept, 300).nonzero()[0].tolist() == [2, *range(5, 265)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "bert"}, "tokenizer.ggml.model is 'bert', which is not supported; supported are: gpt2, llama"),
        ({"model": None}, "the GGUF metadata lacks tokenizer.ggml.model"),
        ({"model": 3}, "tokenizer.ggml.model holds a int where a str is read"),
        (
            {"pre": "bloom"},
            "tokenizer.ggml.pre is 'bloom', which is not supported; supported are: smollm, gpt-2, llama-bpe, dbrx,",
        ),
        ({"pre": None}, "the GGUF metadata lacks tokenizer.ggml.pre"),
        ({"tokens": None}, "the GGUF metadata lacks tokenizer.ggml.tokens"),
        ({"token_type": None}, "the GGUF metadata lacks tokenizer.ggml.token_type"),
        ({"merges": None}, "the GGUF metadata lacks tokenizer.ggml.merges"),
        ({"token_type": [1] * 7}, "tokenizer.ggml.token_type has 7 entries and tokenizer.ggml.tokens 265"),
        ({"token_type": [9] + [1] * 264}, "tokenizer.ggml.token_type of token 0 is 9, not one of 0 to 6"),
        ({"tokens": ["a"] * 265}, "tokenizer.ggml.tokens has the token 'a' twice"),
        ({"tokens": ["", *"bcd"], "token_type": [1] * 4}, "token 0 of tokenizer.ggml.tokens is empty"),
        ({"tokens": [b"a"], "token_type": [1]}, "tokenizer.ggml.tokens holds b'a' where every entry is a str"),
        ({"bos_token_id": 265}, "tokenizer.ggml.bos_token_id is 265, outside the vocabulary 0 to 264"),
        ({"eos_token_id": -1}, "tokenizer.ggml.eos_token_id is -1, outside the vocabulary 0 to 264"),
        ({"bos_token_id": "0"}, "tokenizer.ggml.bos_token_id holds a str where a int is read"),
        ({"merges": ["a q9"]}, "the merge 'a q9' of tokenizer.ggml.merges names 'q9', which is no token"),
        ({"merges": ["b a"]}, "the merge 'b a' of tokenizer.ggml.merges names 'ba', which is no token"),
        ({"merges": ["ab"]}, "the merge 'ab' of tokenizer.ggml.merges names '', which is no token"),
        ({"add_bos_token": 1}, "tokenizer.ggml.add_bos_token holds a int where a bool is read"),
        ({"pre": "llama3", "bos_token_id": None}, "BOS is to be added, but there is no tokenizer.ggml.bos_token_id"),
        ({"model": "llama"}, "the GGUF metadata lacks tokenizer.ggml.scores"),
        ({"model": "llama", "scores": [0.0]}, "tokenizer.ggml.scores has 1 entries and tokenizer.ggml.tokens 265"),
        (
            {"model": "llama", "pre": "default", "scores": [0.0] * 265},
            "has neither the 256 byte tokens <0x00> to <0xFF> nor",
        ),
    ],
)
def test_a_bad_gguf_tokenizer_is_one_clear_line(changes, message):
    with pytest.raises(EpoError, match="^small.gguf: " + re.escape(message)) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


# Folders


@pytest.fixture
def folder(tmp_path):
    small().save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_gives_its_tokenizer_without_the_network(folder, monkeypatch):
    def refuse(*args):
        raise AssertionError("the network was used")

    # transformers asks the hub about vocabularies of more than 100,000 tokens unless it is told not to.
    many = small_gguf()
    many[KEY + "tokens"] += [f"token {index}" for index in range(100_000)]
    many[KEY + "token_type"] += [PLAIN_TYPE] * 100_000
    tokenizer_from_gguf(many, "many.gguf").save_pretrained(folder)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    (folder / "config.json").write_text('{"model_type": "mistral", "auto_map": {"AutoTokenizer": "x.Y"}}')
    tokenizer = tokenizer_from_folder(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer.clean_up_tokenization_spaces is False
    expected = small()(TEXTS)["input_ids"]
    assert tokenizer(TEXTS)["input_ids"] == expected


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tokenizer.json", None, "there is no such file; a model's folder must have its tokenizer as tokenizer.json"),
        ("tokenizer.json", b'{"version": "1.0", ', "not readable as JSON (Expecting property name"),
        ("tokenizer.json", b"\xff\xfe", "not readable as JSON ('utf-8' codec can't decode"),
        ("tokenizer.json", b"[]", "holds a list where an object is read"),
        ("tokenizer.json", b"{}", "not a valid tokenizer (it lacks the list added_tokens)"),
        ("tokenizer.json", b'{"added_tokens": []}', "not a valid tokenizer ("),
        ("tokenizer_config.json", b"{", "not readable as JSON (Expecting property name"),
        ("special_tokens_map.json", b"", "not readable as JSON (Expecting value"),
    ],
)
def test_a_bad_file_in_a_folder_is_one_clear_line(folder, file, content, message):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(EpoError, match="^" + re.escape(f"{folder / file}: {message}")) as caught:
        tokenizer_from_folder(folder)
    assert "\n" not in str(caught.value)


def test_a_chat_template_comes_with_the_folder_and_one_that_is_no_text_is_refused(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert tokenizer_from_folder(folder).chat_template == "{{ messages }}"
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(EpoError, match="^" + re.escape(f"{folder}: not a valid tokenizer ('utf-8' codec")):
        tokenizer_from_folder(folder)
    with pytest.raises(EpoError, match=r"^x\.gguf: tokenizer\.chat_template holds a list where a str is read"):
        tokenizer_from_gguf(small_gguf() | {"tokenizer.chat_template": ["a"]}, "x.gguf")


def test_placeholders_of_a_folder_are_not_allowed_and_their_likes_are(tmp_path):
    banned = ["<unused12>", "[unused3]", "<|reserved_special_token_3|>", "<|reserved_200|>", "<|dummy_7|>", "[PAD9]"]
    fine = ["unused", "<unused>", "reserved_1", "[1]", "<0x41>", "a"]
    vocabulary = {token: index for index, token in enumerate(banned + fine)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path)
    tokenizer = tokenizer_from_folder(tmp_path)
    assert allowed_tokens(tokenizer, 13).tolist() == [False] * 6 + [True] * 6 + [False]
    # Without a decoder a token is shown as the vocabulary has it.
    assert token_texts(tokenizer, [0, 11]) == ["<unused12>", "a"]


def test_torch_is_not_needed(folder):
    code = (
        "import sys; sys.modules['torch'] = None; import json; from pathlib import Path;"
        "from epo_jax.models.tokenizers import *; a = tokenizer_from_folder(Path(sys.argv[1]));"
        "b = tokenizer_from_gguf(json.load(sys.stdin), 'small.gguf'); allowed_tokens(b, 9);"
        "print(token_texts(b, b('ab12').input_ids) == token_texts(a, a('ab12').input_ids), adds_bos(a))"
    )
    arguments = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(
        arguments, input=json.dumps(small_gguf()), capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "True False\n"
