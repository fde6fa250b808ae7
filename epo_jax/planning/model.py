"""Models without weights: their configuration, and shapes in the place of parameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
from flax import nnx
from jax.sharding import Mesh

from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.models.config import DTYPES, DecoderConfig
from epo_jax.models.decoder import abstract_decoder
from epo_jax.models.embedded import EMBEDDED, embedded_file
from epo_jax.models.families import family_of_gguf, family_of_hf
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.hf_folder import config_file, read_architecture, read_config
from epo_jax.models.hub import named_by_id, open_hub_model
from epo_jax.models.hub_id import parse_hub_id
from epo_jax.models.random_model import RANDOM, numbered_tokenizer, random_config, shipped_configs
from epo_jax.parallel.sharding import layout


def abstract_model(name: str, dtype: str, revision: str | None = None) -> LanguageModel:
    """A model of which nothing but the configuration is read.

    Args:
        name: as for `load_model`, or the path of a config.json.
        dtype: a key of `DTYPES`.
        revision: of a model of the hub.

    Returns:
        The model; its parameters are shapes, and token i of its tokenizer has the text "t{i}".

    Raises:
        EpoError: a configuration that cannot be had or used.
    """
    if dtype not in DTYPES:
        raise EpoError(f"--dtype={dtype}: not one of {', '.join(DTYPES)}")
    config = _config(name, dtype, revision)
    graphdef, params = abstract_decoder(config)
    return LanguageModel(graphdef, params, numbered_tokenizer(config.vocab_size), config, name)


def laid_on(lm: LanguageModel, mesh: Mesh, fsdp: bool) -> LanguageModel:
    """The abstract model as its parameters lie on a mesh.

    Args:
        lm: what `abstract_model` gave.
        mesh: the devices, which need not be here.
        fsdp: whether parameters lie over the axis `data` too.
    """
    lies = layout(lm.config, mesh, fsdp)
    graphdef, abstract = abstract_decoder(lies.config)
    where = lies.on(mesh)
    flat = []
    for path, variable in nnx.to_flat_state(abstract):
        one = variable.get_value()
        sharding = where(".".join(map(str, path)), one.shape)
        flat.append((path, variable.replace(jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=sharding))))
    return dataclasses.replace(lm, graphdef=graphdef, params=nnx.from_flat_state(flat), config=lies.config)


def _config(name: str, dtype: str, revision: str | None) -> DecoderConfig:
    if name.startswith(RANDOM):
        return random_config(name, dtype)[0]
    if name in EMBEDDED:
        return _of_gguf(embedded_file(name), dtype)
    path = Path(name).expanduser()
    if path.is_dir():
        return _of_hf(config_file(path), name, dtype)
    if path.is_file():
        return _of_gguf(path, dtype) if path.suffix == ".gguf" else _of_hf(path, name, dtype)
    hub_id = parse_hub_id(name, revision)
    if hub_id is None or hub_id.file is not None:
        raise EpoError(
            f"--model={name}: no configuration without weights; give owner/name of the hub, a folder, a config.json, a "
            f".gguf file that is here, or {RANDOM} with one of {', '.join(shipped_configs())}"
        )
    with named_by_id(hub_id):
        return _of_hf(config_file(open_hub_model(hub_id).folder), name, dtype)


def _of_hf(path: Path, source: str, dtype: str) -> DecoderConfig:
    return family_of_hf(read_architecture(path), source).from_hf(read_config(path), source, dtype)


def _of_gguf(path: Path, dtype: str) -> DecoderConfig:
    file = open_gguf(path)
    family = family_of_gguf(file.metadata["general.architecture"], str(path))
    return family.from_gguf(file.metadata, file.checkpoint, dtype)
