"""Tensors of an autoencoder's file, read a column or a block of rows at a time: encoders take gigabytes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float32

from epo_jax.errors import EpoError, listed, one_line
from epo_jax.models.safetensors_file import FLOATS, Entry, open_shard

# Numbers of a block of rows.
BLOCK = 2**22
# What zipfile and numpy's reader of headers raise at files of other kinds and at broken ones.
_BROKEN = (OSError, EOFError, ValueError, KeyError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error)

Value = TypeVar("Value")


@runtime_checkable
class TensorFile(Protocol):
    """A file of named tensors.

    Attributes:
        path: the file.
        shapes: of its tensors by name.
    """

    @property
    def path(self) -> Path: ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def blocks(self, name: str) -> Iterator[Float32[np.ndarray, "rows ..."]]:
        """A tensor's rows, some at a time."""
        ...

    def column(self, name: str, index: int) -> Float32[np.ndarray, " rows"]:
        """A column of a matrix."""
        ...


def whole(file: TensorFile, name: str) -> Float32[np.ndarray, "..."]:
    """All of a small tensor."""
    return np.concatenate(list(file.blocks(name))).reshape(file.shapes[name])


@dataclasses.dataclass(frozen=True)
class SafetensorsFile:
    """A safetensors file; `entries` are its tensors under SAELens's names."""

    path: Path
    entries: Mapping[str, Entry]

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of its tensors by name."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def blocks(self, name: str) -> Iterator[Float32[np.ndarray, "rows ..."]]:
        """A tensor's rows, some at a time."""
        stored = self._mapped(name)
        for start in range(0, len(stored), step := _rows(stored.shape)):
            yield stored[start : start + step].astype(np.float32)

    def column(self, name: str, index: int) -> Float32[np.ndarray, " rows"]:
        """A column of a matrix, of which no more than a page for each row is read."""
        return self._mapped(name)[:, index].astype(np.float32)

    def _mapped(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        try:
            return np.memmap(self.path, FLOATS[entry.kind], "r", entry.offset, entry.shape or (1,))
        except (OSError, ValueError) as error:
            raise EpoError(f"{self.path}: tensor {name} cannot be read ({one_line(error)})") from error


@dataclasses.dataclass(frozen=True)
class NpzFile:
    """A .npz file; `members` are its arrays under SAELens's names, each with its header's shape."""

    path: Path
    members: Mapping[str, tuple[str, tuple[int, ...]]]

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of its arrays by name."""
        return {name: shape for name, (_, shape) in self.members.items()}

    def blocks(self, name: str) -> Iterator[Float32[np.ndarray, "rows ..."]]:
        """An array's rows, some at a time."""
        member, shape = self.members[name]
        step = _rows(shape)
        with _told(self.path), zipfile.ZipFile(self.path) as archive, _member(archive, member) as file:
            _, fortran, dtype = _header(file)
            if fortran:
                yield np.asarray(_array(file, dtype, shape[::-1]).T, np.float32)
            else:
                for start in range(0, shape[0] if shape else 1, step):
                    count = min(step, shape[0] - start) if shape else 1
                    yield _array(file, dtype, (count, *shape[1:])).astype(np.float32)
            # Past the end, where the checksum is looked at.
            file.read(1)

    def column(self, name: str, index: int) -> Float32[np.ndarray, " rows"]:
        """A column of a matrix."""
        return np.concatenate([block[:, index] for block in self.blocks(name)])


def open_safetensors(path: Path, flag: str) -> SafetensorsFile:
    """A safetensors file of floats.

    Raises:
        EpoError: no such file, not a whole one, or tensors of other types.
    """
    with flagged(flag):
        entries = open_shard(path).entries
    odd = {name: entry.kind for name, entry in entries.items() if entry.kind not in FLOATS}
    if odd:
        raise EpoError(f"{flag}: {path}: {listed(odd)} are not stored as floats ({listed(set(odd.values()))})")
    return SafetensorsFile(path, _named(entries, path, flag))


def open_npz(path: Path, flag: str) -> NpzFile:
    """A .npz file of floats, whose sizes are what their headers say; pickles are refused.

    Raises:
        EpoError: no such file, not a whole one, or arrays of other types.
    """
    members: dict[str, tuple[str, tuple[int, ...]]] = {}
    with flagged(flag), _told(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with _member(archive, info.filename) as file:
                shape, _, dtype = _header(file)
                if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
                    raise ValueError(f"{info.filename} is of type {dtype}, where floats are read")
                if math.prod(shape) * dtype.itemsize != info.file_size - file.tell():
                    raise ValueError(f"{info.filename} is not as long as its header says")
            members[info.filename.removesuffix(".npy")] = (info.filename, shape)
    return NpzFile(path, _named(members, path, flag))


def _named(tensors: Mapping[str, Value], path: Path, flag: str) -> dict[str, Value]:
    """Tensors under SAELens's names; Gemma Scope writes some of them small."""
    named = {f"W_{name[2:]}" if name.startswith("w_") else name: value for name, value in tensors.items()}
    if len(named) < len(tensors):
        raise EpoError(f"{flag}: {path} has a tensor under two names: {listed(tensors)}")
    return named


def _rows(shape: tuple[int, ...]) -> int:
    return max(1, BLOCK // max(1, math.prod(shape[1:])))


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipExtFile:
    return archive.open(name)  # type: ignore[return-value]


def _header(file: zipfile.ZipExtFile) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _array(file: zipfile.ZipExtFile, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    wanted = math.prod(shape) * dtype.itemsize
    data = file.read(wanted)
    if len(data) < wanted:
        raise EOFError("it ends too early")
    return np.frombuffer(data, dtype).reshape(shape)


@contextlib.contextmanager
def flagged(flag: str) -> Iterator[None]:
    """Have messages about files start with the flag that names them."""
    try:
        yield
    except EpoError as error:
        raise EpoError(f"{flag}: {error}") from error


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what numpy and zipfile raise into one line."""
    try:
        yield
    except EpoError:
        raise
    except FileNotFoundError as error:
        raise EpoError(f"there is no file {path}") from error
    except _BROKEN as error:
        raise EpoError(f"{path} cannot be read as a .npz file of arrays: {one_line(error)}") from error
