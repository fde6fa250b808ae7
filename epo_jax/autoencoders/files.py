"""Which files of a folder are an autoencoder, what each format leaves unsaid, and the site that a path tells of."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epo_jax.autoencoders.settings import JUMPRELU, LOADING, METADATA, Settings, read_settings
from epo_jax.autoencoders.tensor_files import TensorFile, open_npz, open_safetensors
from epo_jax.errors import EpoError, listed, one_line

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
GEMMA_SCOPE, GEMMA_SCOPE_2 = "params.npz", "params.safetensors"
# Sets of files that are an autoencoder, in the order in which they are looked for: the needed ones, and others.
FORMATS = (
    ((CONFIG, WEIGHTS), (SCALER,)),
    ((GEMMA_SCOPE,), (CONFIG,)),
    ((GEMMA_SCOPE_2,), (CONFIG,)),
)
KNOWN = f"{CONFIG} with {WEIGHTS} (SAELens), {GEMMA_SCOPE} or {GEMMA_SCOPE_2} (Gemma Scope)"

# google/gemma-scope-2b-pt-res, folder layer_20/width_16k/average_l0_71.
_SCOPE = re.compile(r"gemma-scope-\w+-(?:pt|it)-(res|mlp|att)(?![a-z]).*/layer_(\d+)(?:/|$)")
# google/gemma-scope-2-270m-pt, folder resid_post/layer_12_width_16k_l0_big.
_SCOPE_2 = re.compile(r"/(resid_post|mlp_out|attn_out)(?:_all)?/layer_(\d+)_width_")
_SITES = {
    **dict.fromkeys(("res", "resid_post"), "blocks.{}.hook_resid_post"),
    **dict.fromkeys(("mlp", "mlp_out"), "blocks.{}.hook_mlp_out"),
    **dict.fromkeys(("att", "attn_out"), "blocks.{}.attn.hook_z"),
}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where an autoencoder's files are, and what is known of it beside them.

    Attributes:
        path: a folder, or the file in it that holds the tensors.
        overrides: keys of the configuration that are said elsewhere, and right.
        defaults: keys that the configuration may lack.
        scale: factor of activations scaled to an expected norm, if it is said elsewhere.
    """

    path: Path
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scale: float | None = None


def read_files(origin: Origin, flag: str) -> tuple[Settings, TensorFile]:
    """Settings and tensors of an autoencoder.

    Raises:
        EpoError: no autoencoder there, or one that cannot be used.
    """
    folder, names = _chosen(origin.path, flag)
    if WEIGHTS in names:
        start = f"{flag}: {folder / CONFIG}"
        config = _completed(_json(folder / CONFIG, flag), origin)
        return read_settings(config, _scale(origin, folder, flag), start), open_safetensors(folder / WEIGHTS, flag)
    name = names[0]
    file: TensorFile = open_npz(folder / name, flag) if name == GEMMA_SCOPE else open_safetensors(folder / name, flag)
    config = {"architecture": JUMPRELU, "apply_b_dec_to_input": False, LOADING: {}}
    told = _json(folder / CONFIG, flag) if CONFIG in names else {}
    config |= _completed(told, origin)
    if not {"hook_name", "hook_point", METADATA} & set(config):
        config["hook_name"] = _site_of(folder, name, flag)
    return read_settings(config, origin.scale, f"{flag}: {folder / name}"), file


def _chosen(path: Path, flag: str) -> tuple[Path, tuple[str, ...]]:
    """The folder, and the names of the files in it that are read."""
    if path.is_file():
        folder, wanted = path.parent, {path.name}
        needed = next((needed for needed, _ in FORMATS if path.name in needed), ())
        if not needed:
            raise EpoError(f"{flag}: {path} is no autoencoder; known files are {KNOWN}")
    else:
        folder, wanted = path, set()
    for needed, others in FORMATS:
        if wanted <= set(needed) and all((folder / name).is_file() for name in needed):
            return folder, (*needed, *(name for name in others if (folder / name).is_file()))
    here = listed(entry.name for entry in folder.iterdir()) or "nothing"
    raise EpoError(f"{flag}: {folder} is no autoencoder's folder, which has {KNOWN}; it has {here}")


def _json(path: Path, flag: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise EpoError(f"{flag}: {path} cannot be read as JSON ({one_line(error)})") from error
    if not isinstance(found, dict):
        raise EpoError(f"{flag}: {path} must be an object")
    return found


def _completed(config: dict[str, Any], origin: Origin) -> dict[str, Any]:
    metadata = config.get(METADATA)
    if isinstance(metadata, dict):
        config = {**config, METADATA: {key: value for key, value in metadata.items() if key not in origin.overrides}}
    said = {**config, **(metadata if isinstance(metadata, dict) else {})}
    defaults = {key: value for key, value in origin.defaults.items() if said.get(key) is None}
    return {**config, **defaults, **origin.overrides}


def _scale(origin: Origin, folder: Path, flag: str) -> float | None:
    """The factor that training scaled activations with, which checkpoints keep in a file of its own."""
    if origin.scale is not None or not (folder / SCALER).is_file():
        return origin.scale
    found = _json(folder / SCALER, flag).get("scaling_factor")
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _site_of(folder: Path, name: str, flag: str) -> str:
    pattern = _SCOPE if name == GEMMA_SCOPE else _SCOPE_2
    # Not resolved: in the hub's cache names are links.
    found = pattern.search(f"{folder.absolute().as_posix()}/")
    if found is None:
        raise EpoError(
            f"{flag}: {folder / name} does not say what it was trained on, and its path is not that of a repository of "
            f'Gemma Scope; put {CONFIG} beside it with {{"hook_name": "blocks.20.hook_resid_post"}}, or the right site'
        )
    return _SITES[found[1]].format(int(found[2]))
