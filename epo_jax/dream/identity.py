"""What makes two runs the same: settings, and fingerprints of weights and features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from epo_jax.dream.run import MODEL_COMMIT, Run
from epo_jax.features import Feature
from epo_jax.models import LanguageModel
from epo_jax.models.fingerprint import numbers_fingerprint, weights_fingerprint

# What may differ when a run is gone on with: how it ran, not what was asked for.
_FREE = ("versions", "seconds", "stopped", "micro_batch", "mesh", "scale_offset", "scale_unit", "command")
_SHOWN, _LONGEST = 4, 60


def fingerprints(
    lm: LanguageModel, features: Sequence[Feature], fluency_model: LanguageModel | None
) -> list[dict[str, str]]:
    """For each feature what tells it and the models apart from others of their names; the same on every mesh."""
    models = {"model": weights_fingerprint(lm)}
    if fluency_model is not None:
        models["fluency_model"] = weights_fingerprint(fluency_model)
    return [{**models, "feature": numbers_fingerprint(feature)} for feature in features]


def identity(run: Run) -> dict[str, Any]:
    """What was asked for, as JSON values by name."""
    told = {name: value for name, value in run.to_json().items() if name not in _FREE}
    if run.search.options is not None:
        # What the settings leave open may be another in another version.
        told["options"] = dataclasses.asdict(run.search.options)
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
