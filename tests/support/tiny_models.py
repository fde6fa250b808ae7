"""Tiny random models of every family, made by PyTorch and saved as transformers saves them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXT = "The quick brown fox jumps over the lazy dog and runs away from the bear. A cat sat on a mat, 12 times or 345."

COMMON: Mapping[str, Any] = {
    "vocab_size": 307,
    "hidden_size": 36,
    "intermediate_size": 53,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": None,
    "initializer_range": 0.2,
}
# In place of a setting of COMMON that a family has not.
ABSENT = object()
GPT: Mapping[str, Any] = {"intermediate_size": ABSENT, "n_inner": 53}
GEMMA: Mapping[str, Any] = {"num_key_value_heads": 2, "head_dim": 10, "pad_token_id": None}
# Gemma 3 turns the heads of its two types of layers in two ways.
BASES: Mapping[str, Any] = {
    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
WINDOWS: Mapping[str, Any] = {
    "sliding_window": 5,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "query_pre_attn_scalar": 24,
}
# transformers' class of a family's models, and what its tiny configuration has beside or instead of COMMON.
FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": (
        "LlamaForCausalLM",
        {"num_attention_heads": 3, "num_key_value_heads": 3, "tie_word_embeddings": False},
    ),
    "mistral": ("MistralForCausalLM", {"num_key_value_heads": 2, "sliding_window": 5}),
    "qwen2": ("Qwen2ForCausalLM", {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3ForCausalLM", {"num_key_value_heads": 2, "head_dim": 10}),
    "phi3": ("Phi3ForCausalLM", {"num_key_value_heads": 3, "pad_token_id": None}),
    "olmo2": ("Olmo2ForCausalLM", {"num_key_value_heads": 2, "pad_token_id": None}),
    "smollm3": (
        "SmolLM3ForCausalLM",
        {"num_key_value_heads": 2, "no_rope_layer_interval": 2, "tie_word_embeddings": False, "pad_token_id": None},
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", {"hidden_size": 48}),
    "gpt2": ("GPT2LMHeadModel", GPT),
    "gpt_j": ("GPTJForCausalLM", {**GPT, "num_attention_heads": 3, "rotary_dim": 8}),
    "phi": ("PhiForCausalLM", {"num_attention_heads": 3, "num_key_value_heads": 3}),
    "gemma": ("GemmaForCausalLM", GEMMA),
    "gemma2": (
        "Gemma2ForCausalLM",
        {**GEMMA, **WINDOWS, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 8.0},
    ),
    "gemma3": ("Gemma3ForCausalLM", {**GEMMA, **WINDOWS, "rope_parameters": BASES}),
}


def save(folder: Path, family: str, bos: bool = False, seed: int = 0, **changes: object) -> torch.nn.Module:
    """Save a tiny random model with its tokenizer; returns the PyTorch model, in float32.

    Args:
        folder: where to.
        family: a key of FAMILIES.
        bos: whether the tokenizer adds a BOS.
        seed: of the weights.
        changes: settings of transformers' configuration.
    """
    name, defaults = FAMILIES[family]
    kind = getattr(transformers, name)
    torch.manual_seed(seed)
    settings = {**COMMON, **defaults, **changes}
    model = kind(kind.config_class(**{name: value for name, value in settings.items() if value is not ABSENT})).eval()
    # Other implementations pass over soft caps, or hand no pattern out.
    model.set_attn_implementation("eager")
    for parameter in model.parameters():
        if parameter.ndim == 1:
            # Away from the zeros and ones that would hide a weight which is not read.
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
    model.save_pretrained(folder)
    save_tokenizer(folder, bos)
    return model


def save_tokenizer(folder: Path, bos: bool = False) -> None:
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
