"""What the Hugging Face hub and its library raise, each as one clear line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from epo_jax.errors import EpoError, one_line
from epo_jax.models.hub_id import HubId, hub_endpoint

# What the HTTP library raises: httpx's or, with newer versions of huggingface_hub, httpx2's.
NetworkError: type[Exception] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BUSY = (408, 429)


class NotOnHubError(EpoError):
    """A name that the hub does not know, or does not show."""


class NoAnswerError(EpoError):
    """The hub cannot be asked, or gives no answer."""


@contextlib.contextmanager
def hub_errors_told(model: HubId, file: str | None = None) -> Iterator[None]:
    """Turn what the hub's library raises into one line.

    Args:
        model: what is looked for.
        file: the file that is asked for; None while it is the repository.

    Raises:
        NotOnHubError: no such repository, or one that is not shown.
        NoAnswerError: no network, or a hub that does not answer.
        EpoError: anything else that the library raises.
    """
    try:
        yield
    except EpoError:
        raise
    except (NetworkError, OSError, ValueError, KeyError, TypeError) as error:
        raise _told(error, model, file) from error


def _told(error: BaseException, model: HubId, file: str | None) -> EpoError:
    # "Not in the cache" says nothing of why the file was not fetched; its cause does.
    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    start, endpoint = f"--model={model}: ", hub_endpoint()
    name = "the repository" if file is None else file
    if isinstance(error, GatedRepoError):
        return EpoError(
            f"{start}{model.repo} is gated; accept its licence at https://huggingface.co/{model.repo} and {LOGIN}"
        )
    if isinstance(error, RevisionNotFoundError):
        return EpoError(
            f"--revision={model.revision or 'main'}: {model.repo} has no such branch, tag or commit; "
            f"{endpoint}/{model.repo}/tree/main lists those that it has"
        )
    if isinstance(error, RepositoryNotFoundError) or _status(error) == 401:
        return NotOnHubError(start + _not_shown(model, endpoint))
    if isinstance(error, DisabledRepoError):
        return EpoError(f"{start}the hub has disabled {model.repo}")
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return EpoError(f"{start}{model.repo} has no {name}")
    if isinstance(error, OfflineModeIsEnabled):
        return NoAnswerError(f"{start}HF_HUB_OFFLINE is set, so {endpoint} is not asked")
    if isinstance(error, HfHubHTTPError):
        kind = NoAnswerError if _status(error) >= 500 or _status(error) in _BUSY else EpoError
        said = error if _status(error) < 500 else error.server_message or error.response.reason_phrase
        return kind(f"{start}{endpoint} answered {_status(error)} when asked for {name} ({one_line(said)})")
    if isinstance(error, NetworkError):
        return NoAnswerError(f"{start}{endpoint} cannot be reached ({one_line(error)})")
    if isinstance(error, OSError) and error.errno in _FULL:
        return EpoError(
            f"{start}no space is left in {constants.HF_HUB_CACHE}; make room, or set HF_HOME to a folder with more"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return EpoError(f"{start}the cache cannot be used ({one_line(error)}); HF_HOME says where it is")
    if isinstance(error, OSError):
        return EpoError(f"{start}{name} cannot be downloaded whole ({one_line(error)})")
    return EpoError(f"{start}the answer of {endpoint} is not a hub's ({one_line(error)})")


def _not_shown(model: HubId, endpoint: str) -> str:
    here = "neither a folder here nor a repository that" if model.file is None else "in no repository that"
    private = "private, and the token that is set may not read it" if get_token() else f"private: {LOGIN}"
    return f"{here} {endpoint} shows; it may be misspelt, or {private}"


def _status(error: BaseException) -> int:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else 0
