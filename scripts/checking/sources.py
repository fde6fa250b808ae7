"""The PyTorch model behind a model's name, with the very weights that are loaded here."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

import epo_jax
from epo_jax.errors import EpoError
from epo_jax.models.embedded import EMBEDDED, embedded_file
from epo_jax.models.hub_id import parse_hub_id


def torch_model(lm: epo_jax.LanguageModel) -> torch.nn.Module:
    """What transformers makes of a model's source, in float32 on the CPU.

    Raises:
        EpoError: transformers cannot read it, or it is a model with random weights.
    """
    source = lm.source
    options = {"dtype": torch.float32, "attn_implementation": "eager", "trust_remote_code": False}
    if source.startswith("random:"):
        raise EpoError(f"--model={source}: random weights have no PyTorch model to be compared with")
    path = embedded_file(source) if source in EMBEDDED else Path(source).expanduser()
    try:
        if path.is_file():
            model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, **options)
        elif path.is_dir():
            model = transformers.AutoModelForCausalLM.from_pretrained(path, **options)
        else:
            hub_id = parse_hub_id(source, lm.revision)
            if hub_id is None:
                raise EpoError(f"--model={source}: no file, folder or model of the hub")
            model = transformers.AutoModelForCausalLM.from_pretrained(
                hub_id.repo, gguf_file=hub_id.file, revision=lm.commit or "main", **options
            )
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise EpoError(f"--model={source}: transformers cannot read it ({' '.join(str(error).split())})") from error
    return model.eval()
