"""A folder of a repository of the Hugging Face hub that holds an autoencoder, brought into the hub library's cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, try_to_load_from_cache

from epo_jax.autoencoders.files import FORMATS, KNOWN
from epo_jax.errors import EpoError, listed
from epo_jax.models.hub import MAIN
from epo_jax.models.hub_download import LIBRARY, HubFile, cache_folder, fetch_files, is_cached, small_file
from epo_jax.models.hub_errors import NoAnswerError, NotOnHubError, hub_errors_told
from epo_jax.models.hub_id import HubId, hub_endpoint, parse_hub_id


def fetch_folder(repo: str, folder: str, flag: str) -> Path | None:
    """Bring an autoencoder's files into the cache; without network, find them there.

    Args:
        repo: "owner/name".
        folder: its path in the repository; empty for the top.
        flag: what errors start with.

    Returns:
        The folder in the cache; None if `repo` cannot be a repository's name.

    Raises:
        NotOnHubError: the hub does not show such a repository.
        EpoError: no autoencoder in the folder, or files that cannot be had.
    """
    parts = folder.split("/") if folder else []
    model = parse_hub_id(repo)
    if model is None or "/" not in repo or {"", ".", ".."} & set(parts):
        return None
    folder = "/".join(parts[:-1] if parts and parts[-1].endswith((".npz", ".safetensors")) else parts)
    with _named(model, flag):
        try:
            return _fetched(model, folder)
        except NoAnswerError as error:
            cached = _cached(model, folder)
            if cached is None:
                raise EpoError(f"{error}, and there is no copy of it in the cache") from error
            return cached


def _fetched(model: HubId, folder: str) -> Path:
    with hub_errors_told(model):
        info = HfApi(endpoint=hub_endpoint(), library_name=LIBRARY).model_info(
            model.repo, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    files = {
        one.rfilename: HubFile(one.size, one.lfs.sha256 if one.lfs is not None else None) for one in info.siblings or ()
    }
    for needed, others in FORMATS:
        wanted = _in(folder, needed)
        if all(name in files for name in wanted):
            wanted += [name for name in _in(folder, others) if name in files]
            commit = str(info.sha)
            fetch_files(model, commit, {name: files[name] for name in wanted})
            # Last, so that without network the branch stands for a commit that is whole.
            small_file(model, MAIN, wanted[0])
            return cache_folder(model) / "snapshots" / commit / folder
    last = {needed[-1] for needed, _ in FORMATS}
    there = listed({name.rpartition("/")[0] or "its top" for name in files if name.rpartition("/")[2] in last})
    raise EpoError(
        f"--model={model}: {folder or 'the top'} has no {KNOWN}; "
        + (f"folders that do: {there}" if there else "nor has any other folder")
    )


def _cached(model: HubId, folder: str) -> Path | None:
    for needed, _ in FORMATS:
        found = try_to_load_from_cache(model.repo, _in(folder, needed)[0], revision=MAIN)
        if isinstance(found, str):
            commit = Path(found).relative_to(cache_folder(model) / "snapshots").parts[0]
            if all(is_cached(model, commit, name) for name in _in(folder, needed)):
                return Path(found).parent
    return None


def _in(folder: str, names: Sequence[str]) -> list[str]:
    return [f"{folder}/{name}" if folder else name for name in names]


@contextlib.contextmanager
def _named(model: HubId, flag: str) -> Iterator[None]:
    """Have the hub's messages, which are about models, start with the feature."""
    try:
        yield
    except EpoError as error:
        kind = NotOnHubError if isinstance(error, NotOnHubError) else EpoError
        raise kind(str(error).replace(f"--model={model}:", f"{flag}:")) from error
