"""What a model family declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint, Weight
from epo_jax.models.config import DecoderConfig


@dataclasses.dataclass(frozen=True)
class Family:
    """Translation of one model family, for both kinds of source.

    Attributes:
        hf_architecture: the name under `architectures` in config.json.
        gguf_architecture: `general.architecture` of a GGUF file.
        from_hf: (config.json as transformers normalizes it, source, dtype) -> configuration.
        from_gguf: (metadata, checkpoint, dtype) -> configuration.
        hf_weights: where parameters come from in safetensors files.
        gguf_weights: the same in GGUF files.
        hf_ignored: (configuration) -> regular expressions of tensors that carry nothing to load.
    """

    hf_architecture: str
    gguf_architecture: str
    from_hf: Callable[[Mapping[str, Any], str, str], DecoderConfig]
    from_gguf: Callable[[Mapping[str, Any], Checkpoint, str], DecoderConfig]
    hf_weights: Sequence[Weight]
    gguf_weights: Sequence[Weight]
    hf_ignored: Callable[[DecoderConfig], Sequence[str]]


# Attributes of config.json that do not change what the forward pass computes.
NEUTRAL = frozenset(
    "_name_or_path add_cross_attention architectures attention_dropout auto_map begin_suppress_tokens bos_token_id "
    "chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id dtype embd_pdrop eos_token_id "
    "finetuning_task forced_bos_token_id forced_eos_token_id id2label initializer_range is_encoder_decoder "
    "is_llama_config label2id model_type output_attentions output_hidden_states pad_token_id pretraining_tp problem_type "
    "resid_pdrop return_dict sep_token_id task_specific_params tokenizer_class torch_dtype transformers.js_config "
    "transformers_version unsloth_fixed unsloth_version use_cache".split()
)


def refuse_unhandled(
    config: Mapping[str, Any], defaults: Mapping[str, Any], handled: Collection[str], source: str
) -> None:
    """Check that every attribute of a config.json is handled, neutral or at the default that the decoder implements.

    Raises:
        EpoError: listing every attribute that is none of these.
    """
    unhandled = [
        f"{name}={value!r}"
        for name, value in sorted(config.items())
        if name not in handled and name not in NEUTRAL and not (name in defaults and defaults[name] == value)
    ]
    if unhandled:
        raise EpoError(f"{source}: config.json has settings that are not supported: {', '.join(unhandled)}")
