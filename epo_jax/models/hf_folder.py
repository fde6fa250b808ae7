"""Reading a folder in Hugging Face format: config.json and safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epo_jax.errors import EpoError, listed, one_line
from epo_jax.models.checkpoint import Checkpoint
from epo_jax.models.safetensors_file import FLOATS, Entry, Shard, open_shard, read_tensor

INDEX = "model.safetensors.index.json"


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
        raise EpoError(f"{path}: not a valid configuration ({one_line(error)})") from error
    return config


def open_safetensors(folder: Path, ignored: Sequence[str] = ()) -> Checkpoint:
    """The tensors of a folder's model.safetensors, or of the shards that its index names; read when asked for.

    Args:
        folder: where the files are.
        ignored: regular expressions of tensors, of any type, that carry nothing to load and are passed over.

    Raises:
        EpoError: no safetensors files, a shard that is missing, truncated or corrupt, an index that does not fit the
            shards, or integers as weights.
    """
    shards = {path: open_shard(path) for path in _files(folder)}
    if (folder / INDEX).is_file():
        _check_index(folder / INDEX, shards, ignored)
    entries: dict[str, Entry] = {}
    for path, shard in shards.items():
        for name, entry in shard.entries.items():
            if _matches(name, ignored):
                continue
            if entry.kind not in FLOATS:
                raise EpoError(f"{path}: tensor {name} holds {entry.kind}, where one of {', '.join(FLOATS)} is read")
            if name in entries:
                raise EpoError(f"{path}: tensor {name} is in {entries[name].path.name} too")
            entries[name] = entry
    shapes = {name: entry.shape for name, entry in entries.items()}
    return Checkpoint(str(folder), shapes, lambda name: read_tensor(name, entries[name]))


def shard_names(index: Path) -> list[str]:
    """The files that an index of shards names, in its own folder.

    Raises:
        EpoError: a file that is no index, or one that points elsewhere.
    """
    names = sorted(set(_weight_map(index, _read_json(index)).values()))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise EpoError(f"{index}: points outside the folder: {listed(outside)}")
    return names


def _weight_map(index: Path, content: Mapping[str, Any]) -> Mapping[str, str]:
    entries: Mapping[str, str] | None = content.get("weight_map")
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries.values()):
        raise EpoError(f"{index}: lacks weight_map, the table from tensor to file")
    return entries


def _check_index(index: Path, shards: Mapping[Path, Shard], ignored: Sequence[str]) -> None:
    """Check that an index tells what the shards hold."""
    content = _read_json(index)
    told, files = _weight_map(index, content), {path.name: shard for path, shard in shards.items()}
    held = {name: (path.name, entry) for path, shard in shards.items() for name, entry in shard.entries.items()}
    for name, file in told.items():
        # Converters leave out what is saved twice, and do not always take it out of the index.
        if name not in files[file].entries and name not in files[file].left_out and not _matches(name, ignored):
            raise EpoError(f"{index}: says that tensor {listed([name])} is in {file}, which does not have it")
    for name, (file, _) in held.items():
        if name not in told and not _matches(name, ignored):
            raise EpoError(f"{index}: does not tell of tensor {name}, which is in {file}")
    metadata = content.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if total is None or told.keys() != held.keys():
        return
    sizes = [(entry.size, entry.kind) for _, entry in held.values()]
    right = sum(size for size, _ in sizes)
    # There are programs that count truth values as bits, and others that add up the files.
    other = (
        sum(size / 8 if kind == "BOOL" else size for size, kind in sizes),
        sum(path.stat().st_size for path in shards),
    )
    if total not in (right, *other):
        raise EpoError(
            f"{index}: says that the tensors have {listed([str(total)])} bytes in all, where those in the files that "
            f"it names have {right}; fetch the files again, or take total_size out of it if they are right"
        )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        names = shard_names(folder / INDEX)
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise EpoError(f"{folder / INDEX}: names files that are not there: {listed(missing)}")
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
        raise EpoError(f"{path}: not readable as JSON ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise EpoError(f"{path}: holds a {type(content).__name__} where an object is read")
    return content
