"""Documents come out of every format as they went in, and what cannot be read is told in a line."""

from __future__ import annotations

import gzip
import json

import pandas as pd
import pytest

from epo_jax import EpoError
from epo_jax.corpus import read_documents
from epo_jax.corpus.sources import list_files

TEXTS = ["one, two", "drei\nvier", "五六"]


def test_text_jsonl_and_parquet_give_the_same_texts(tmp_path):
    lines = "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in TEXTS)
    (tmp_path / "a.jsonl").write_text(lines + "\n")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(lines)
    pd.DataFrame({"text": TEXTS, "n": 1}).to_parquet(tmp_path / "c.parquet")
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        found = list(read_documents(str(tmp_path / name)))
        assert [document.text for document in found] == TEXTS
        assert [document.name for document in found] == [f"{name}:{number}" for number in (1, 2, 3)]


def test_a_folder_is_read_in_the_order_of_names_and_other_files_are_passed_over(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "deep" / "a.md").write_text("a")
    (tmp_path / "c.png").write_bytes(b"\x89PNG")
    with gzip.open(tmp_path / "a.txt.gz", "wt") as file:
        file.write("z")
    found = [(document.name, document.text) for document in read_documents(str(tmp_path))]
    assert found == [("a.txt.gz", "z"), ("b.txt", "b"), ("deep/a.md", "a")]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"other": "b"}\n', r'a\.jsonl:2 has no text in "text"; --column names'),
        ("a.jsonl", b'{"text": \n', r"a\.jsonl:1 is not JSON"),
        ("a.parquet", b"nothing", "is no Parquet file"),
        ("a.txt", b"\xff\xfe\xfa", "cannot be read"),
        ("a.txt.gz", b"nothing", "cannot be read"),
        ("a.png", b"nothing", "its format is not known"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EpoError, match=told) as error:
        list(read_documents(str(tmp_path / name)))
    assert "\n" not in str(error.value)


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path):
    pd.DataFrame({"body": TEXTS}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(EpoError, match="no column text; --column names one of body"):
        list(read_documents(str(tmp_path / "a.parquet")))
    assert [document.text for document in read_documents(str(tmp_path / "a.parquet"), "body")] == TEXTS


def test_nothing_there_is_told(tmp_path):
    with pytest.raises(EpoError, match="no such file or folder, and no dataset's id"):
        list_files(str(tmp_path / "nowhere"))
    with pytest.raises(EpoError, match="no file there ends in"):
        list_files(str(tmp_path))
