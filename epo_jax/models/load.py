"""Loading a model by name, file or folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import jax
from flax import nnx
from jax.sharding import Mesh
from transformers import PreTrainedTokenizerFast

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint, Weight
from epo_jax.models.config import DTYPES, DecoderConfig
from epo_jax.models.decoder import abstract_decoder
from epo_jax.models.embedded import EMBEDDED, embedded_file
from epo_jax.models.families import family_of_gguf, family_of_hf
from epo_jax.models.filling import Progress, Shardings, load_parameters
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.hf_folder import config_file, open_safetensors, read_architecture, read_config
from epo_jax.models.hub import fetch_weights, named_by_id, open_hub_model
from epo_jax.models.hub_errors import NotOnHubError
from epo_jax.models.hub_id import HubId, parse_hub_id
from epo_jax.models.language_model import LanguageModel
from epo_jax.models.on_mesh import mesh_for
from epo_jax.models.random_model import RANDOM, load_random, numbered_tokenizer, random_config, shipped_configs
from epo_jax.models.tokenizers import tokenizer_from_folder, tokenizer_from_gguf
from epo_jax.parallel.mesh import AUTO, make_mesh
from epo_jax.parallel.sharding import layout

Fill = Callable[..., tuple[DecoderConfig, nnx.State]]


def load_model(
    name: str | Path,
    dtype: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
    sharding: Shardings | None = None,
    mesh: Mesh | str | None = None,
    fsdp: bool = False,
) -> LanguageModel:
    """Load a language model and its tokenizer.

    Args:
        name: an embedded model's name ("smollm2-135m"), a .gguf file, a folder in Hugging Face format, or, for random
            weights, "random:" with a shipped configuration's name or the path of a config.json. What is none of these
            is looked up on the Hugging Face hub: "owner/name", or "owner/name/file.gguf" for a GGUF file.
        dtype: "float32", "bfloat16" or "float16"; by default float32 on a CPU and bfloat16 on an accelerator.
        revision: branch, tag or commit of a model of the hub; by default the branch "main".
        progress: called with the bytes of parameters that are filled and those of all, as files are read.
        sharding: (a parameter's path, its shape) -> how it lies on devices, or None for the default device; not for
            random weights, and not with a mesh.
        mesh: devices that parameters are filled into, or the text that names them, such as "data:4,model:2" or "auto";
            over its axis `model` lie parts of each layer.
        fsdp: whether parameters lie over the axis `data` too, and are put together layer by layer while a search runs,
            for models that do not fit otherwise.

    Returns:
        The model, its parameters on the default device unless `mesh` or `sharding` says otherwise.

    Raises:
        EpoError: an unknown name, an unsupported architecture, or a file that cannot be had or read whole.
    """
    if dtype is None:
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if dtype not in DTYPES:
        raise EpoError(f"--dtype={dtype}: not one of {', '.join(DTYPES)}")
    if fsdp and mesh is None:
        raise EpoError("--fsdp: spreads weights over the axis data of a mesh; give --mesh, such as data:8, as well")
    if isinstance(mesh, str) and mesh != AUTO:
        # What cannot be had is told before files are read; "auto" needs to know the model's size.
        mesh = make_mesh(mesh)
    name = str(name)
    hub_id = parse_hub_id(name, revision)
    if revision is not None and (hub_id is None or name in EMBEDDED or Path(name).exists()):
        raise EpoError(f"--revision={revision}: only models of the Hugging Face hub have revisions, not --model={name}")
    fill = functools.partial(_fill, progress=progress, sharding=sharding, mesh=mesh, fsdp=fsdp)
    if name in EMBEDDED:
        return _load_gguf(embedded_file(name), name, dtype, fill)
    if name.startswith(RANDOM):
        return load_random(name, dtype, mesh, fsdp)
    path = _local(name)
    if path is not None:
        return _load_folder(path, dtype, fill) if path.is_dir() else _load_gguf(path, name, dtype, fill)
    known = (
        f"known names are {', '.join(EMBEDDED)}, and a .gguf file or a folder in Hugging Face format can be given by "
        "its path"
    )
    if hub_id is None:
        raise EpoError(
            f"--model={name}: unknown; {known}; random weights are {RANDOM} with {', '.join(shipped_configs())} or a "
            "config.json"
        )
    try:
        return _load_hub(hub_id, dtype, fill)
    except NotOnHubError as error:
        shipped = f"; {RANDOM}{name} has its shape with random weights" if name in shipped_configs() else ""
        raise EpoError(f"{error}; {known}{shipped}") from error


def load_tokenizer(name: str | Path, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of a model alone: weights are neither read nor, but for a GGUF file of the hub, downloaded.

    Args:
        name: as for `load_model`.
        revision: likewise.

    Raises:
        EpoError: an unknown name, or a file that cannot be had or read.
    """
    name = str(name)
    if name.startswith(RANDOM):
        return numbered_tokenizer(random_config(name, "float32")[0].vocab_size)
    path = embedded_file(name) if name in EMBEDDED else _local(name)
    if path is None:
        hub_id = parse_hub_id(name, revision)
        if hub_id is None:
            raise EpoError(f"--model={name}: unknown; its tokenizer is not to be had")
        with named_by_id(hub_id):
            model = open_hub_model(hub_id)
            path = model.folder if hub_id.file is None else fetch_weights(model)
    return tokenizer_from_folder(path) if path.is_dir() else tokenizer_from_gguf(open_gguf(path).metadata, str(path))


def _local(name: str) -> Path | None:
    """The folder or .gguf file of a name; None if it is no path of something that is there.

    Raises:
        EpoError: another file.
    """
    try:
        path = Path(name).expanduser()
        folder, file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError):
        # A text that cannot be a path, such as one that is too long or names an unknown user's home.
        return None
    if file and path.suffix != ".gguf":
        raise EpoError(f"--model={name}: a file that does not end in .gguf; a .gguf file or a model's folder is read")
    return path if folder or file else None


def _fill(
    config: DecoderConfig,
    weights: Sequence[Weight],
    checkpoint: Checkpoint,
    copies: Mapping[str, str] = MappingProxyType({}),
    *,
    sharding: Shardings | None,
    mesh: Mesh | str | None,
    fsdp: bool,
    progress: Progress | None,
) -> tuple[DecoderConfig, nnx.State]:
    """The configuration with the room that parameters have, and the parameters."""
    found = mesh_for(mesh, config, fsdp)
    if found is None:
        return config, load_parameters(config, weights, checkpoint, copies, sharding, progress)
    lies = layout(config, found, fsdp)
    return lies.config, load_parameters(config, weights, checkpoint, copies, lies.on(found), progress, lies.config)


def _load_hub(hub_id: HubId, dtype: str, fill: Fill) -> LanguageModel:
    with named_by_id(hub_id):
        model = open_hub_model(hub_id)
        if hub_id.file is not None:
            lm = _load_gguf(fetch_weights(model), str(hub_id), dtype, fill)
        else:
            lm = _load_folder(model.folder, dtype, fill, functools.partial(fetch_weights, model))
    return dataclasses.replace(lm, source=str(hub_id), revision=hub_id.revision, commit=model.commit)


def _load_gguf(path: Path, source: str, dtype: str, fill: Fill) -> LanguageModel:
    file = open_gguf(path)
    family = family_of_gguf(file.metadata["general.architecture"], str(path))
    tokenizer = tokenizer_from_gguf(file.metadata, str(path))
    config = family.from_gguf(file.metadata, file.checkpoint, dtype)
    checkpoint = file.checkpoint.without(family.gguf_ignored)
    config, params = fill(config, family.gguf_weights, checkpoint)
    return LanguageModel(abstract_decoder(config)[0], params, tokenizer, config, source)


def _load_folder(
    folder: Path, dtype: str, fill: Fill, bring_weights: Callable[[], object] = lambda: None
) -> LanguageModel:
    path = config_file(folder)
    family = family_of_hf(read_architecture(path), str(folder))
    config = family.from_hf(read_config(path), str(folder), dtype)
    tokenizer = tokenizer_from_folder(folder)
    # Gigabytes may have to come first, so only for a model that can be used.
    bring_weights()
    checkpoint = open_safetensors(folder, family.hf_ignored).renamed(family.hf_name)
    config, params = fill(config, family.hf_weights, checkpoint, family.hf_copies(config))
    return LanguageModel(abstract_decoder(config)[0], params, tokenizer, config, str(folder))
