"""Reading a folder in Hugging Face format: config.json and safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint

INDEX = "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")


def config_file(folder: Path) -> Path:
    """The config.json of a folder.

    Raises:
        EpoError: there is none.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise EpoError(f"--model={folder}: the folder has no config.json, so it is not a model in Hugging Face format")
    return path


def read_architecture(path: Path) -> str:
    """The model's class that a config.json names.

    Raises:
        EpoError: a file that is no JSON object or names no class.
    """
    architectures = _read_json(path).get("architectures")
    if not isinstance(architectures, list) or not architectures or not isinstance(architectures[0], str):
        raise EpoError(f"{path}: lacks architectures, the list that names the model's class")
    return architectures[0]


def read_config(path: Path) -> dict[str, Any]:
    """The attributes of a config.json, old spellings translated to today's by transformers.

    Raises:
        EpoError: a file that is not valid.
    """
    if not isinstance(_read_json(path).get("model_type"), str):
        raise EpoError(f"{path}: lacks model_type, the name of the model's family")
    # Imported here, since with it comes PyTorch where that is installed.
    from transformers import AutoConfig

    try:
        config: dict[str, Any] = AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        ).to_dict()
    except Exception as error:
        # transformers checks values in many ways and places; whatever it raises here is about this file.
        raise EpoError(f"{path}: not a valid configuration ({_one_line(error)})") from error
    return config


def open_safetensors(folder: Path, ignored: Sequence[str] = ()) -> Checkpoint:
    """The tensors of a folder's model.safetensors, or of the shards that its index names; read when asked for.

    Args:
        folder: where the files are.
        ignored: regular expressions of tensors, of any type, that carry nothing to load and are passed over.

    Raises:
        EpoError: no safetensors files, a shard that is missing, truncated or corrupt, or integers as weights.
    """
    files = _files(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    where: dict[str, Path] = {}
    for path in files:
        try:
            with safetensors.safe_open(path, framework="np") as shard:
                for name in shard.keys():  # noqa: SIM118 (safe_open is not iterable)
                    if any(re.fullmatch(pattern, name) for pattern in ignored):
                        continue
                    entry = shard.get_slice(name)
                    if entry.get_dtype() not in FLOATS:
                        raise EpoError(
                            f"{path}: tensor {name} holds {entry.get_dtype()}, where one of {', '.join(FLOATS)} is read"
                        )
                    if name in where:
                        raise EpoError(f"{path}: tensor {name} is in {where[name].name} too")
                    shapes[name], where[name] = tuple(entry.get_shape()), path
        except (safetensors.SafetensorError, OSError) as error:
            raise EpoError(
                f"{path}: not a whole safetensors file, it is truncated or corrupt ({_one_line(error)})"
            ) from error

    def read(name: str) -> np.ndarray:
        path = where[name]
        try:
            with safetensors.safe_open(path, framework="np") as shard:
                tensor: np.ndarray = shard.get_tensor(name)
                return tensor
        except (safetensors.SafetensorError, OSError) as error:
            raise EpoError(f"{path}: tensor {name} cannot be read ({_one_line(error)})") from error

    return Checkpoint(str(folder), shapes, read)


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        entries: Mapping[str, str] | None = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries.values()):
            raise EpoError(f"{folder / INDEX}: lacks weight_map, the table from tensor to file")
        names = sorted(set(entries.values()))
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise EpoError(f"{folder / INDEX}: points outside the folder: {', '.join(outside)}")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise EpoError(f"{folder / INDEX}: names files that are not there: {', '.join(missing)}")
        return [folder / name for name in names]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise EpoError(
            f"{folder}: has weights only as pickles ({', '.join(pickles[:3])}), which can run code when read; "
            "save the model again with safe_serialization=True"
        )
    raise EpoError(f"{folder}: has no model.safetensors and no {INDEX}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise EpoError(f"{path}: not readable as JSON ({_one_line(error)})") from error
    if not isinstance(content, dict):
        raise EpoError(f"{path}: holds a {type(content).__name__} where an object is read")
    return content


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
