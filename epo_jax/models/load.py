"""Loading a model by name, file or folder."""

from __future__ import annotations

from pathlib import Path

import jax

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import load_parameters
from epo_jax.models.config import DTYPES
from epo_jax.models.decoder import abstract_decoder
from epo_jax.models.embedded import EMBEDDED, embedded_file
from epo_jax.models.families import FAMILIES
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.hf_folder import open_safetensors, read_architecture, read_config
from epo_jax.models.language_model import LanguageModel
from epo_jax.models.tokenizers import tokenizer_from_folder, tokenizer_from_gguf


def load_model(name: str | Path, dtype: str | None = None) -> LanguageModel:
    """Load a language model and its tokenizer.

    Args:
        name: an embedded model's name ("smollm2-135m"), a .gguf file, or a folder in Hugging Face format.
        dtype: "float32", "bfloat16" or "float16"; by default float32 on a CPU and bfloat16 on an accelerator.

    Returns:
        The model, its parameters on the default device.

    Raises:
        EpoError: an unknown name, an unsupported architecture, or a file that cannot be read whole.
    """
    if dtype is None:
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if dtype not in DTYPES:
        raise EpoError(f"--dtype={dtype}: not one of {', '.join(DTYPES)}")
    name = str(name)
    if name in EMBEDDED:
        return _load_gguf(embedded_file(name), name, dtype)
    path = Path(name)
    try:
        path = path.expanduser()
        folder, file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError):
        # A text that cannot be a path, such as one that is too long or names an unknown user's home.
        folder, file = False, False
    if folder:
        return _load_folder(path, dtype)
    if file and path.suffix == ".gguf":
        return _load_gguf(path, name, dtype)
    if file:
        raise EpoError(f"--model={name}: a file that does not end in .gguf; a .gguf file or a model's folder is read")
    raise EpoError(
        f"--model={name}: unknown; known names are {', '.join(EMBEDDED)}, and a .gguf file or a folder in Hugging Face "
        "format can be given by its path"
    )


def _load_gguf(path: Path, source: str, dtype: str) -> LanguageModel:
    file = open_gguf(path)
    architecture = file.metadata["general.architecture"]
    family = next((f for f in FAMILIES if f.gguf_architecture == architecture), None)
    if family is None:
        supported = ", ".join(f.gguf_architecture for f in FAMILIES)
        raise EpoError(f"{path}: architecture {architecture!r} is not supported; supported are: {supported}")
    tokenizer = tokenizer_from_gguf(file.metadata, str(path))
    config = family.from_gguf(file.metadata, file.checkpoint, dtype)
    params = load_parameters(config, family.gguf_weights, file.checkpoint)
    return LanguageModel(abstract_decoder(config)[0], params, tokenizer, config, source)


def _load_folder(folder: Path, dtype: str) -> LanguageModel:
    architecture = read_architecture(folder)
    family = next((f for f in FAMILIES if f.hf_architecture == architecture), None)
    if family is None:
        supported = ", ".join(f.hf_architecture for f in FAMILIES)
        raise EpoError(f"{folder}: architecture {architecture!r} is not supported; supported are: {supported}")
    config = family.from_hf(read_config(folder), str(folder), dtype)
    checkpoint = open_safetensors(folder)
    tokenizer = tokenizer_from_folder(folder)
    params = load_parameters(config, family.hf_weights, checkpoint, family.hf_ignored, family.hf_copies(config))
    return LanguageModel(abstract_decoder(config)[0], params, tokenizer, config, str(folder))
