"""What makes two runs the same: settings, and fingerprints of weights and features."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from epo_jax.dream.result import MODEL_COMMIT, Run
from epo_jax.features import Feature
from epo_jax.models import LanguageModel
from epo_jax.parallel.placing import fetched

# What may differ when a run is gone on with: how it ran, not what was asked for.
_FREE = ("versions", "seconds", "stopped", "micro_batch", "mesh", "scale_offset", "scale_unit", "command")
_SHOWN, _LONGEST = 4, 60
_UNSIGNED = {2: jnp.uint16, 4: jnp.uint32}


def fingerprints(
    lm: LanguageModel, features: Sequence[Feature], fluency_model: LanguageModel | None
) -> list[dict[str, str]]:
    """For each feature what tells it and the models apart from others of their names; the same on every mesh."""
    models = {"model": _of_weights(lm)}
    if fluency_model is not None:
        models["fluency_model"] = _of_weights(fluency_model)
    return [{**models, "feature": _of_numbers(feature)} for feature in features]


def identity(run: Run) -> dict[str, Any]:
    """What was asked for, as JSON values by name."""
    told = {name: value for name, value in run.to_json().items() if name not in _FREE}
    return {**told, "commit": run.versions.get(MODEL_COMMIT)}


def differences(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> str:
    """How the identities of several dreams differ from others, for a message; empty if they do not.

    Fingerprints that either side lacks count as the same.
    """
    if len(old) != len(new):
        return f"{len(old)} dreams (now {len(new)})"
    found: list[str] = []
    for one, other in zip(old, new, strict=True):
        found += [line for line in _differing("", one, other) if line not in found]
    told = "; ".join(found[:_SHOWN])
    return told if len(found) <= _SHOWN else f"{told}; and {len(found) - _SHOWN} more"


def _differing(path: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        if path == "fingerprints":
            names = [name for name in names if name in old and name in new]
        below = [(f"{path}.{name}" if path else name, old.get(name), new.get(name)) for name in names]
        return [line for one in below for line in _differing(*one)]
    if _plain(old) == _plain(new):
        return []
    return [f"{path} {_shown(old)} (now {_shown(new)})"]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _of_weights(lm: LanguageModel) -> str:
    sums = np.asarray(fetched(_sums(tuple(jax.tree.leaves(lm.params)))))
    return f"{zlib.crc32(sums.tobytes()):08x}"


@jax.jit
def _sums(leaves: tuple[jax.Array, ...]) -> UInt32[jax.Array, " n"]:
    """For each array the sum of a hash of its numbers' bits and places, modulo 2**32; zeros add nothing.

    So neither what fills an array up nor how it lies on devices counts.
    """
    return jnp.stack([_hashed(leaf) for leaf in leaves])


def _hashed(leaf: jax.Array) -> UInt32[jax.Array, ""]:
    bits = jax.lax.bitcast_convert_type(leaf, _UNSIGNED[leaf.dtype.itemsize]).astype(jnp.uint32)
    # Along each axis by itself, since a flat index changes where there is more room; odd, so that no bits are lost.
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis in range(leaf.ndim):
        place = _mixed(place + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis))
    return jnp.sum(_mixed(bits * (2 * place + 1)), dtype=jnp.uint32)


def _mixed(bits: UInt32[jax.Array, "..."]) -> UInt32[jax.Array, "..."]:
    bits = bits * jnp.uint32(0x9E3779B1)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA77)
    return bits ^ (bits >> 13)


def _of_numbers(feature: Feature) -> str:
    checksum = 0
    for leaf in jax.tree.leaves(feature):
        array = np.ascontiguousarray(fetched(leaf))
        checksum = zlib.crc32(f"{array.dtype} {array.shape}".encode() + array.tobytes(), checksum)
    return f"{checksum:08x}"
