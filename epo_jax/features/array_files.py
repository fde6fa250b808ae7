"""Vectors and numbers out of NumPy files, checked before anything computes with them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from epo_jax.errors import EpoError, listed, one_line


def read_npy(path: str, flag_text: str) -> np.ndarray:
    """The array of a .npy file; pickles are refused.

    Raises:
        EpoError: no such file, or not one array.
    """
    # Mapped, so that a header that lies about the size is found out before memory is taken.
    found = _load(path, flag_text, ".npy file of one array", mapped=True)
    if not isinstance(found, np.ndarray):
        raise EpoError(f"{flag_text}: {path} holds several arrays, where a .npy file of one is read")
    return found


def read_npz(path: str, flag_text: str) -> Mapping[str, np.ndarray]:
    """The arrays of a .npz file; pickles are refused.

    Raises:
        EpoError: no such file, or not a .npz file.
    """
    found = _load(path, flag_text, ".npz file of arrays", mapped=False)
    if isinstance(found, np.ndarray):
        raise EpoError(f"{flag_text}: {path} holds one array without a name, where a .npz file of named ones is read")
    return found


def _load(path: str, flag_text: str, wanted: str, mapped: bool) -> np.ndarray | Mapping[str, np.ndarray]:
    try:
        found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError as error:
        raise EpoError(f"{flag_text}: there is no file {path}") from error
    except Exception as error:
        # A header is Python text, so that broken ones fail in the tokenizer, in zlib and elsewhere, in many ways.
        raise EpoError(f"{flag_text}: {path} cannot be read as a {wanted}: {one_line(error)}") from error


def vector(found: np.ndarray, size: int, what: str, path: str, flag_text: str) -> Float32[jax.Array, " size"]:
    """An array as a vector of a given size.

    Args:
        found: the array.
        size: numbers that are wanted.
        what: for errors, such as "the residual stream's width".
        path: its file.
        flag_text: what errors start with.

    Raises:
        EpoError: another shape, other things than real numbers, or numbers that float32 has not.
    """
    if found.shape != (size,):
        raise EpoError(f"{flag_text}: {path} has shape {found.shape}, where ({size},) is read, {what}")
    return _numbers(found, path, flag_text)


def number(found: np.ndarray, path: str, flag_text: str) -> Float32[jax.Array, ""]:
    """An array of one number, as that number.

    Raises:
        EpoError: several numbers, or what `vector` refuses.
    """
    if math.prod(found.shape) != 1:
        raise EpoError(f"{flag_text}: {path} has shape {found.shape}, where one number is read")
    return _numbers(found.reshape(()), path, flag_text)


def check_names(found: Mapping[str, np.ndarray], needed: tuple[str, ...], known: tuple[str, ...], start: str) -> None:
    """Check the names of a file's arrays; an unknown one may mean what cannot be left out, such as a mean.

    Args:
        found: the arrays.
        needed: names that must be there.
        known: names that may be there, the needed ones included.
        start: what errors start with, flag and file.

    Raises:
        EpoError: a name is missing, or unknown.
    """
    missing, unknown = set(needed) - set(found), set(found) - set(known)
    if missing or unknown:
        faults = [f"has no {listed(missing)}"] * bool(missing) + [f"has the unknown {listed(unknown)}"] * bool(unknown)
        raise EpoError(f"{start} {' and '.join(faults)}; its arrays may be {', '.join(known)}")


def _numbers(found: np.ndarray, path: str, flag_text: str) -> Float32[jax.Array, "..."]:
    if not (np.issubdtype(found.dtype, np.floating) or np.issubdtype(found.dtype, np.integer)):
        raise EpoError(f"{flag_text}: {path} has dtype {found.dtype}, where real numbers are read")
    with np.errstate(over="ignore"):
        numbers = np.asarray(found).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise EpoError(f"{flag_text}: {path} holds numbers that are not finite in float32")
    return jnp.asarray(numbers)
