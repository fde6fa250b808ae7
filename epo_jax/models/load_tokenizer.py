"""A model's tokenizer without its weights."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from epo_jax.errors import EpoError
from epo_jax.models.embedded import EMBEDDED, embedded_file
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.hub import fetch_weights, named_by_id, open_hub_model
from epo_jax.models.hub_id import parse_hub_id
from epo_jax.models.random_model import RANDOM, numbered_tokenizer, random_config
from epo_jax.models.tokenizers import tokenizer_from_folder, tokenizer_from_gguf


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of a model, by the name that `load_model` loads it by.

    Raises:
        EpoError: an unknown name, or a tokenizer that cannot be had.
    """
    hub_id = parse_hub_id(name, revision)
    if name in EMBEDDED:
        return _of_gguf(embedded_file(name))
    if name.startswith(RANDOM):
        return numbered_tokenizer(random_config(name, "float32")[0].vocab_size)
    path = Path(name).expanduser()
    if path.is_dir():
        return tokenizer_from_folder(path)
    if path.is_file() and path.suffix == ".gguf":
        return _of_gguf(path)
    if hub_id is None:
        raise EpoError(f"--model={name}: its tokenizer is not there; a name, a .gguf file or a folder is read")
    with named_by_id(hub_id):
        model = open_hub_model(hub_id)
        return _of_gguf(fetch_weights(model)) if hub_id.file is not None else tokenizer_from_folder(model.folder)


def _of_gguf(path: Path) -> PreTrainedTokenizerFast:
    return tokenizer_from_gguf(open_gguf(path).metadata, str(path))
