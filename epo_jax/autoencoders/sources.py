"""From an autoencoder's name to its files: a folder here, a release that the sae-lens package knows, or the hub."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epo_jax.autoencoders.files import Origin
from epo_jax.autoencoders.hub_folder import fetch_folder
from epo_jax.autoencoders.settings import LOADING
from epo_jax.errors import EpoError, listed, one_line
from epo_jax.models.hub_errors import NotOnHubError

_REGISTRY = "pretrained_saes.yaml"
# The registry's loaders whose files are read here; None is SAELens's own format.
_READ_HERE = (None, "sae_lens", "gemma_2", "gemma_3")
# Repositories whose configurations do not say that the model was processed; SAELens's registry does.
_CENTERED = (
    "jbloom/GPT2-Small-SAEs-Reformatted",
    "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
    "tommmcgrath/gpt2-small-mlp-out-saes",
)
# What SAELens assumes of a release where neither its registry nor the configuration speaks.
_UNPROCESSED = {LOADING: {"center_writing_weights": False, "fold_value_biases": False}}


def find(name: str, flag: str) -> Origin:
    """Where an autoencoder is, its files fetched if they were not here.

    Args:
        name: a path, "RELEASE/SAE_ID", or "owner/name/folder" of the hub.
        flag: what errors start with.

    Raises:
        EpoError: nothing of that name.
    """
    path = Path(name).expanduser()
    if path.exists():
        return Origin(path)
    release, _, sae_id = name.partition("/")
    registry = _registry()
    if registry is not None and release in registry:
        return _released(registry[release], release, sae_id, flag)
    owner, repo, *inside = [*name.split("/"), ""]
    try:
        folder = None if path.is_absolute() else fetch_folder(f"{owner}/{repo}", "/".join(inside).strip("/"), flag)
    except NotOnHubError as error:
        known = (
            "sae-lens knows no such release" if registry else "releases' names need the package: pip install sae-lens"
        )
        raise EpoError(f"{error}; {known}") from error
    if folder is None:
        raise EpoError(f"{flag}: there is no folder {name}; a hub's is given as owner/name/folder")
    return Origin(folder, {LOADING: {"center_writing_weights": True}} if f"{owner}/{repo}" in _CENTERED else {})


def _released(release: Mapping[str, Any], name: str, sae_id: str, flag: str) -> Origin:
    found = next((entry for entry in release["saes"] if str(entry["id"]) == sae_id), None)
    if found is None:
        ids = listed((str(entry["id"]) for entry in release["saes"]), most=5)
        raise EpoError(f"{flag}: the release {name} has no {sae_id or 'autoencoder without a name'}; it has {ids}")
    if release.get("conversion_func") not in _READ_HERE:
        raise EpoError(
            f"{flag}: the release {name} has files of the kind {release['conversion_func']}, which are not read here; "
            f"write them anew with sae_lens.SAE.from_pretrained({name!r}, {sae_id!r}).save_model(FOLDER) and give the "
            "folder"
        )
    folder = fetch_folder(str(release["repo_id"]), str(found["path"]), flag)
    assert folder is not None
    overrides = release.get("config_overrides") or {}
    return Origin(folder, overrides, _UNPROCESSED, found.get("norm_scaling_factor"))


@functools.cache
def _registry() -> Mapping[str, Any] | None:
    """The releases that an installed sae-lens knows; the package itself, which imports torch, is not imported."""
    spec = importlib.util.find_spec("sae_lens")
    path = Path(next(iter(spec.submodule_search_locations or ()), "")) / _REGISTRY if spec is not None else None
    if path is None or not path.is_file():
        return None
    import yaml  # type: ignore[import-untyped]  # sae-lens requires it

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found: Mapping[str, Any] = yaml.load(path.read_bytes(), Loader=loader)
    except (OSError, yaml.YAMLError) as error:
        raise EpoError(f"{path}: the registry of sae-lens cannot be read ({one_line(error)})") from error
    return found
