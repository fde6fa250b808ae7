"""Large files from the Hugging Face hub into its library's cache; a download that broke off is gone on with.

The library's own download starts a file anew when the process that fetched it has ended. Here the part that came stays
in the cache as `blobs/ETAG.incomplete`, and the next attempt asks for the rest alone. What is put into the cache is
what the library itself would put there, so other programs find it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import queue
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import HfFileMetadata, http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from epo_jax.errors import EpoError, one_line
from epo_jax.models.hub_errors import NetworkError, hub_errors_told
from epo_jax.models.hub_id import HubId, hub_endpoint

LIBRARY = "epo_jax"
AT_ONCE = 4


@dataclasses.dataclass(frozen=True)
class HubFile:
    """What the hub lists of a file.

    Attributes:
        size: bytes; None if it is not listed.
        sha256: checksum in hexadecimal digits; None if it is not listed.
    """

    size: int | None
    sha256: str | None


def cache_folder(model: HubId) -> Path:
    """Where the library's cache keeps a repository."""
    return Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=model.repo, repo_type="model")


def is_cached(model: HubId, commit: str, file: str) -> bool:
    """Whether the cache holds a file of a commit."""
    return isinstance(try_to_load_from_cache(model.repo, file, revision=commit), str)


def small_file(model: HubId, revision: str, file: str) -> Path:
    """A file from the cache, or from the hub in one piece.

    Raises:
        EpoError: it cannot be had.
    """
    with hub_errors_told(model, file):
        return Path(hf_hub_download(model.repo, file, revision=revision, endpoint=hub_endpoint(), library_name=LIBRARY))


def check_room(model: HubId, files: Mapping[str, HubFile]) -> None:
    """Check that the cache has room for files of which parts may be there.

    Raises:
        EpoError: it has not, or cannot be written.
    """
    blobs = cache_folder(model) / "blobs"
    needed = sum((file.size or 0) - _size(blobs / f"{file.sha256}.incomplete") for file in files.values())
    with hub_errors_told(model):
        blobs.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(blobs).free
    if needed > free:
        raise EpoError(
            f"--model={model}: {needed / 2**30:,.1f} GiB are to be downloaded, and {constants.HF_HUB_CACHE} has room "
            f"for {free / 2**30:,.1f} GiB; make room, or set HF_HOME to a folder with more"
        )


def fetch_files(model: HubId, commit: str, files: Mapping[str, HubFile]) -> None:
    """Bring files of a commit into the cache, several at once.

    Raises:
        EpoError: one that cannot be had, is not what the hub lists, or has no room; what came is kept.
    """
    missing = {name: file for name, file in files.items() if not is_cached(model, commit, name)}
    if not missing:
        return
    check_room(model, missing)
    _at_once(list(missing), lambda name, stop: _fetch(model, commit, name, missing[name], stop))


def _fetch(model: HubId, commit: str, name: str, file: HubFile, stop: threading.Event) -> None:
    endpoint = hub_endpoint()
    url = hf_hub_url(model.repo, name, revision=commit, endpoint=endpoint)
    with hub_errors_told(model, name):
        metadata = get_hf_file_metadata(
            url, timeout=constants.HF_HUB_ETAG_TIMEOUT, library_name=LIBRARY, endpoint=endpoint
        )
    # The library refuses to fetch larger files in this way and has another one for them.
    small = (metadata.size or 0) <= constants.MAX_HTTP_DOWNLOAD_SIZE
    if metadata.etag is not None and re.fullmatch(r"[\w-]+", metadata.etag) and small:
        _fetch_blob(model, name, url, metadata, metadata.etag, file.sha256, stop)
    # Finds the content in its place, and makes the commit's folder point to it.
    small_file(model, commit, name)


def _fetch_blob(
    model: HubId,
    name: str,
    url: str,
    metadata: HfFileMetadata,
    etag: str,
    sha256: str | None,
    stop: threading.Event,
) -> None:
    blob = cache_folder(model) / "blobs" / etag
    partial = blob.with_name(f"{etag}.incomplete")
    # The library's own lock: it and other runs wait for this download instead of making it too.
    lock = cache_folder(model).parent / ".locks" / cache_folder(model).name / f"{etag}.lock"
    with hub_errors_told(model, name):
        blob.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if blob.exists():
                return
            if metadata.size is not None and _size(partial) > metadata.size:
                partial.unlink()
            _receive(model, name, url, metadata.size, partial, stop)
            if sha256 is not None and _sha256(partial) != sha256:
                partial.unlink()
                raise EpoError(
                    f"--model={model}: {name} came with another checksum than the hub lists; it was thrown away, run "
                    "the same again to fetch it anew"
                )
            partial.replace(blob)


def _receive(model: HubId, name: str, url: str, size: int | None, partial: Path, stop: threading.Event) -> None:
    # The login is sent to the hub alone: the HTTP library leaves it out when it is sent on to another host.
    headers = {**build_hf_headers(library_name=LIBRARY), "Accept-Encoding": "identity"}
    while True:
        start = _size(partial)
        try:
            with _Partial(partial, stop) as file:
                http_get(url, file, resume_size=start, headers=headers, expected_size=size, displayed_filename=name)
            return
        except HfHubHTTPError as error:
            if error.response.status_code == 416:
                # More is here than the file has.
                partial.unlink()
            raise
        except NetworkError as error:
            here = _size(partial)
            if here <= start:
                raise EpoError(
                    f"--model={model}: the download of {name} broke off after {here / 1e6:,.1f} of "
                    f"{(size or 0) / 1e6:,.1f} MB ({one_line(error)}); run the same again to go on from there"
                ) from error
        except OSError as error:
            if error.errno is not None:
                raise
            here = _size(partial)
            partial.unlink(missing_ok=True)
            raise EpoError(
                f"--model={model}: {name} came with {here:,} bytes where the hub lists {size or 0:,}; it was thrown "
                "away, run the same again to fetch it anew"
            ) from error


class _Stopped(Exception):  # noqa: N818 (nothing is wrong with the file)
    """The other files are not wanted any more."""


class _Partial(io.BufferedWriter):
    """A file that is written on at its end until it is told to stop."""

    def __init__(self, path: Path, stop: threading.Event):
        super().__init__(io.FileIO(path, "ab"))
        self._stop = stop

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self._stop.is_set():
            raise _Stopped
        return super().write(data)


def _at_once(names: list[str], fetch: Callable[[str, threading.Event], None]) -> None:
    """Run a function over names in a few threads; the first error, or Ctrl-C, ends it."""
    stop, waiting, done = threading.Event(), queue.SimpleQueue[str](), queue.SimpleQueue[BaseException | None]()
    for name in names:
        waiting.put(name)

    def work() -> None:
        while not stop.is_set():
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                fetch(name, stop)
            except BaseException as error:
                done.put(error)
                return
            done.put(None)

    # Daemons, so that the program's end need not wait for the network.
    for _ in range(min(AT_ONCE, len(names))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in names:
            error = done.get()
            if error is not None:
                raise error
    finally:
        stop.set()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
