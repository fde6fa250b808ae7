"""Documents of a corpus: text files, JSONL, Parquet, folders of them, and datasets of the Hugging Face hub."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from epo_jax.errors import EpoError, one_line

# A file of text is one document.
_TEXT = (".txt", ".md", ".rst", ".text")
_LINES = (".jsonl", ".ndjson")
_PARQUET = ".parquet"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
FORMATS = ", ".join((*_TEXT, *_LINES, _PARQUET))


class Document(NamedTuple):
    """A text and where it stands, such as "books/emma.txt" or "train.jsonl:17"."""

    name: str
    text: str


def list_files(source: str) -> list[Path]:
    """The files of a source: a file, or all of a folder that have a known format, sorted by name.

    A source that is no path and looks like OWNER/NAME or OWNER/NAME@REVISION is a dataset of the Hugging Face hub,
    whose files are downloaded first.

    Raises:
        EpoError: nothing there, or nothing in a known format.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if not _known(path):
            raise EpoError(f"--corpus={source}: its format is not known; files end in {FORMATS}, or these and .gz")
        return [path]
    if path.is_dir():
        return _files_below(path, source)
    if _HUB_ID.fullmatch(source):
        return _files_below(_downloaded(source), source)
    raise EpoError(f"--corpus={source}: no such file or folder, and no dataset's id, OWNER/NAME")


def read_documents(source: str, column: str = "text") -> Iterator[Document]:
    """Documents of a source, in the order of its files.

    Args:
        source: as `list_files` takes it.
        column: field of JSONL and column of Parquet that holds the text.

    Raises:
        EpoError: a file that cannot be read, or that lacks the column.
    """
    files = list_files(source)
    root = Path(source).expanduser()
    for path in files:
        name = path.relative_to(root).as_posix() if root.is_dir() else path.name
        try:
            yield from _documents(path, name, column)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise EpoError(f"--corpus={source}: {path} cannot be read ({one_line(error)})") from error


def _documents(path: Path, name: str, column: str) -> Iterator[Document]:
    kind = _kind(path)
    if kind == _PARQUET:
        yield from _parquet(path, name, column)
    elif kind in _LINES:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Document(f"{name}:{number}", _field(line, column, f"{path}:{number}"))
    else:
        with _opened(path) as file:
            yield Document(name, file.read())


def _field(line: str, column: str, place: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise EpoError(f"--corpus: {place} is not JSON ({one_line(error)})") from error
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        raise EpoError(f'--corpus: {place} has no text in "{column}"; --column names the field that holds it')
    return str(row[column])


def _parquet(path: Path, name: str, column: str) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise EpoError(f"--corpus: {path} is no Parquet file ({one_line(error)})") from error
    with file:
        names = file.schema_arrow.names
        if column not in names:
            raise EpoError(f"--corpus: {path} has no column {column}; --column names one of {', '.join(names)}")
        number = 0
        for batch in file.iter_batches(columns=[column], batch_size=256):
            for text in batch.column(0).to_pylist():
                number += 1
                if not isinstance(text, str):
                    raise EpoError(f"--corpus: {path} has no text in row {number} of {column}")
                yield Document(f"{name}:{number}", text)


def _files_below(folder: Path, source: str) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _known(path))
    if not files:
        raise EpoError(f"--corpus={source}: no file there ends in {FORMATS}, or in one of these and .gz")
    return files


def _downloaded(source: str) -> Path:
    from huggingface_hub import snapshot_download

    name, _, revision = source.partition("@")
    patterns = [f"*{suffix}{packed}" for suffix in (*_TEXT, *_LINES, _PARQUET) for packed in ("", ".gz")]
    # A dataset's card is no part of it.
    try:
        return Path(
            snapshot_download(
                name,
                repo_type="dataset",
                revision=revision or None,
                allow_patterns=patterns,
                ignore_patterns=["README.md"],
            )
        )
    # The hub raises its own, the network's and the system's errors.
    except Exception as error:
        raise EpoError(
            f"--corpus={source}: no such file or folder, and the hub does not give it as a dataset ({one_line(error)})"
        ) from error


def _kind(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _known(path: Path) -> bool:
    return _kind(path) in (*_TEXT, *_LINES) or path.suffix.lower() == _PARQUET


def _opened(path: Path):  # type: ignore[no-untyped-def]
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
