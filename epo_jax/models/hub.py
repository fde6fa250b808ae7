"""Models of the Hugging Face hub: which files are fetched, and what is used when there is no network."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache

from epo_jax.errors import EpoError, listed
from epo_jax.models.hf_folder import INDEX, shard_names
from epo_jax.models.hub_download import LIBRARY, HubFile, cache_folder, check_room, fetch_files, is_cached, small_file
from epo_jax.models.hub_errors import NoAnswerError, NotOnHubError, hub_errors_told
from epo_jax.models.hub_id import HubId, hub_endpoint

MAIN = "main"
CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
SETTINGS = (
    *(CONFIG, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja"),
)
_COMMIT = re.compile("[0-9a-f]{40}")
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class HubModel:
    """A model of the hub whose small files are in the cache.

    Attributes:
        id: what was asked for.
        commit: the commit that it stands for.
        folder: the commit's folder in the cache.
        weights: the files of its weights, which `fetch_weights` brings; empty if they are in the cache.
    """

    id: HubId
    commit: str
    folder: Path
    weights: Mapping[str, HubFile]


@contextlib.contextmanager
def named_by_id(model: HubId) -> Iterator[None]:
    """Have messages about files in the cache name the model by its id, which is what the user gave.

    The library's own warnings, of each of its attempts, are held back meanwhile; what comes of them is told once.

    Raises:
        EpoError: one that was raised inside.
    """
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    if level == logging.WARNING:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except EpoError as error:
        folder = f"{re.escape(str(cache_folder(model)))}/snapshots/[0-9a-f]+"
        text = re.sub(f"(--model=)?{folder}(/|: )", "", str(error))
        text = re.sub(folder, str(model), text)
        if text == str(error):
            raise
        raise EpoError(text if text.startswith("--") else f"--model={model}: {text}") from error
    finally:
        logger.setLevel(level)


def open_hub_model(model: HubId) -> HubModel:
    """Find a model on the hub and fetch its configuration and tokenizer; without network, find it in the cache.

    Raises:
        NotOnHubError: neither the hub nor the cache has it.
        EpoError: a model that cannot be used, or may not be read.
    """
    if _COMMIT.fullmatch(model.revision or "") and (cached := _whole_in_cache(model)):
        # A commit never changes, so there is nothing to ask the hub.
        return cached
    try:
        return _on_hub(model)
    except NoAnswerError as error:
        cached = _in_cache(model)
        if cached is None:
            raise NotOnHubError(f"{error}, and there is no copy of it in the cache") from error
        if cached.weights:
            raise EpoError(f"{error}, and its copy in the cache lacks {listed(cached.weights)}") from error
        if not constants.HF_HUB_OFFLINE:
            _LOG.warning("%s; its copy in the cache is used, commit %s", error, cached.commit)
        return cached


def fetch_weights(model: HubModel) -> Path:
    """Bring a model's weights into the cache.

    Returns:
        The GGUF file, or the folder with the safetensors files.

    Raises:
        EpoError: a file that cannot be had, or for which there is no room.
    """
    main = model.id.file or CONFIG
    if model.weights:
        fetch_files(model.id, model.commit, model.weights)
        if model.id.revision != model.commit:
            # Last, so that without network the name stands for a commit that is whole.
            small_file(model.id, model.id.revision or MAIN, main)
    return model.folder / main if model.id.file else model.folder


def _on_hub(model: HubId) -> HubModel:
    with hub_errors_told(model):
        info = HfApi(endpoint=hub_endpoint(), library_name=LIBRARY).model_info(
            model.repo, revision=model.revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    commit = str(info.sha)
    files = {
        one.rfilename: HubFile(one.size, one.lfs.sha256 if one.lfs is not None else None) for one in info.siblings or ()
    }
    if not _COMMIT.fullmatch(commit):
        raise EpoError(f"--model={model}: {hub_endpoint()} does not tell the repository's commit, so it is not a hub")
    folder = cache_folder(model) / "snapshots" / commit
    if model.file is not None:
        if model.file not in files:
            raise EpoError(f"--model={model}: {model.repo} has no {model.file}; {_gguf_files(files)}")
        return HubModel(model, commit, folder, {model.file: files[model.file]})
    kind = _check_kind(model, files)
    small = [name for name in (*SETTINGS, INDEX) if name in files]
    check_room(model, {name: files[name] for name in small if not is_cached(model, commit, name)})
    for name in small:
        small_file(model, commit, name)
    names = shard_names(folder / INDEX) if kind == INDEX else [WEIGHTS]
    missing = [name for name in names if name not in files]
    if missing:
        raise EpoError(f"--model={model}: {INDEX} names files that {model.repo} lacks: {listed(missing)}")
    return HubModel(model, commit, folder, {name: files[name] for name in names})


def _check_kind(model: HubId, files: Mapping[str, HubFile]) -> str:
    """The file that leads to the weights: an index of shards, or the only one."""
    start = f"--model={model}: {model.repo}"
    if CONFIG not in files:
        raise EpoError(f"{start} has no {CONFIG}, so it is not a model in Hugging Face format; {_gguf_files(files)}")
    for kind in (INDEX, WEIGHTS):
        if kind in files:
            return kind
    pickles = listed(name for name in files if name.endswith((".bin", ".pt", ".pth")))
    if pickles:
        raise EpoError(
            f"{start} has its weights only as pickles ({pickles}), which can run code when read; give a --revision "
            "that has safetensors (the hub's conversion bot offers one as refs/pr/N, see "
            f"{hub_endpoint()}/{model.repo}/discussions), or convert them and give the folder"
        )
    other = listed(name for name in files if name.endswith(".safetensors"))
    raise EpoError(f"{start} has no {WEIGHTS} and no {INDEX}; {f'it has {other}' if other else _gguf_files(files)}")


def _gguf_files(files: Mapping[str, HubFile]) -> str:
    names = listed(name for name in files if name.endswith(".gguf"))
    return f"its GGUF files are given as owner/name/FILE: {names}" if names else "it has no GGUF files"


def _in_cache(model: HubId) -> HubModel | None:
    """The copy in the cache, with the weights that it lacks."""
    main = try_to_load_from_cache(model.repo, model.file or CONFIG, revision=model.revision)
    if not isinstance(main, str):
        return None
    folder = Path(main).parents[(model.file or CONFIG).count("/")]
    commit = folder.name
    names: list[str] = []
    if model.file is None:
        names = shard_names(folder / INDEX) if (folder / INDEX).is_file() else [WEIGHTS]
    missing = {name: HubFile(None, None) for name in names if not is_cached(model, commit, name)}
    return HubModel(model, commit, folder, missing)


def _whole_in_cache(model: HubId) -> HubModel | None:
    cached = _in_cache(model)
    if cached is None or cached.weights or not (model.file or (cached.folder / TOKENIZER).is_file()):
        return None
    return cached
