"""Loading a model by name, file or folder."""

from __future__ import annotations

from pathlib import Path

import jax

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import load_parameters
from epo_jax.models.config import DTYPES
from epo_jax.models.decoder import abstract_decoder
from epo_jax.models.embedded import EMBEDDED, embedded_file
from epo_jax.models.families import family_of_gguf, family_of_hf
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.hf_folder import config_file, open_safetensors, read_architecture, read_config
from epo_jax.models.language_model import LanguageModel
from epo_jax.models.random_model import RANDOM, load_random, shipped_configs
from epo_jax.models.tokenizers import tokenizer_from_folder, tokenizer_from_gguf


def load_model(name: str | Path, dtype: str | None = None) -> LanguageModel:
    """Load a language model and its tokenizer.

    Args:
        name: an embedded model's name ("smollm2-135m"), a .gguf file, a folder in Hugging Face format, or, for random
            weights, "random:" with a shipped configuration's name or the path of a config.json.
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
    if name.startswith(RANDOM):
        return load_random(name, dtype)
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
        f"format can be given by its path; random weights are {RANDOM} with {', '.join(shipped_configs())} or a "
        "config.json"
    )


def _load_gguf(path: Path, source: str, dtype: str) -> LanguageModel:
    file = open_gguf(path)
    family = family_of_gguf(file.metadata["general.architecture"], str(path))
    tokenizer = tokenizer_from_gguf(file.metadata, str(path))
    config = family.from_gguf(file.metadata, file.checkpoint, dtype)
    checkpoint = file.checkpoint.without(family.gguf_ignored)
    params = load_parameters(config, family.gguf_weights, checkpoint)
    return LanguageModel(abstract_decoder(config)[0], params, tokenizer, config, source)


def _load_folder(folder: Path, dtype: str) -> LanguageModel:
    path = config_file(folder)
    family = family_of_hf(read_architecture(path), str(folder))
    config = family.from_hf(read_config(path), str(folder), dtype)
    checkpoint = open_safetensors(folder, family.hf_ignored)
    tokenizer = tokenizer_from_folder(folder)
    params = load_parameters(config, family.hf_weights, checkpoint, family.hf_copies(config))
    return LanguageModel(abstract_decoder(config)[0], params, tokenizer, config, str(folder))
