"""What names a model of the Hugging Face hub."""

from __future__ import annotations

import dataclasses
import os
import re

from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from epo_jax.errors import EpoError

_FILE = re.compile(r"(?P<repo>[^/]+/[^/]+)/(?P<file>(?:[^/]+/)*[^/]+\.gguf)")


@dataclasses.dataclass(frozen=True)
class HubId:
    """A model of the hub.

    Attributes:
        repo: the repository, "owner/name" or an old one's bare "name".
        file: the GGUF file in it that is the model; None if the repository is in Hugging Face format.
        revision: branch, tag or commit that was asked for; None for the branch "main".
    """

    repo: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        """The name that `--model` takes."""
        return self.repo if self.file is None else f"{self.repo}/{self.file}"


def parse_hub_id(name: str, revision: str | None = None) -> HubId | None:
    """The hub's model that a name can stand for: "owner/name", "name", or "owner/name/file.gguf"; None if it cannot.

    Raises:
        EpoError: an empty revision.
    """
    match = _FILE.fullmatch(name)
    repo, file = (match["repo"], match["file"]) if match else (name, None)
    try:
        validate_repo_id(repo)
    except HFValidationError:
        return None
    if repo.endswith((".gguf", "\n")) or {".", ".."} & set((file or "").split("/")):
        # The path of a file that is not there.
        return None
    if revision is not None and not revision.strip():
        raise EpoError(f"--revision={revision}: empty; give a branch, tag or commit of {repo}")
    return HubId(repo, file, revision)


def hub_endpoint() -> str:
    """The hub's address: HF_ENDPOINT, or huggingface.co.

    Raises:
        EpoError: an HF_ENDPOINT that is no address.
    """
    # Read at every use: huggingface_hub reads it once, when it is imported, which here is before a notebook's user can.
    address = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if address and not re.match(r"https?://[^/]", address):
        raise EpoError(f"HF_ENDPOINT={address}: not an address such as https://huggingface.co")
    return address or constants.ENDPOINT
