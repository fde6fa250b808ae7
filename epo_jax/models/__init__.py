"""Models: one decoder, loaded strictly from GGUF files and folders in Hugging Face format, or with random weights."""

from epo_jax.models.language_model import LanguageModel, logits
from epo_jax.models.load import load_model, load_tokenizer

__all__ = ["LanguageModel", "load_model", "load_tokenizer", "logits"]
