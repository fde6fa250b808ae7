"""What a model family declares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from epo_jax.errors import EpoError
from epo_jax.models.checkpoint import Checkpoint, Weight
from epo_jax.models.config import ACTIVATIONS, DecoderConfig
from epo_jax.models.families.gguf_rope import ROPE_TENSORS


@dataclasses.dataclass(frozen=True)
class Family:
    """Translation of one model family, for both kinds of source.

    Attributes:
        hf_architecture: the name under `architectures` in config.json.
        gguf_architecture: `general.architecture` of a GGUF file; None where llama.cpp does not write the family, or
            under another family's name.
        from_hf: (config.json as transformers normalizes it, source, dtype) -> configuration.
        from_gguf: (metadata, checkpoint, dtype) -> configuration.
        hf_weights: where parameters come from in safetensors files.
        gguf_weights: the same in GGUF files.
        gguf_ignored: regular expressions of tensors in GGUF files that hold no parameter.
        hf_ignored: regular expressions of tensors in safetensors files, of any type, that carry nothing to load.
        hf_copies: (configuration) -> tensors that may be saved twice, each with the one that it must equal.
        hf_name: (name of a tensor in safetensors files) -> its name in `hf_weights`.
    """

    hf_architecture: str
    gguf_architecture: str | None
    from_hf: Callable[[Mapping[str, Any], str, str], DecoderConfig]
    from_gguf: Callable[[Mapping[str, Any], Checkpoint, str], DecoderConfig]
    hf_weights: Sequence[Weight]
    gguf_weights: Sequence[Weight]
    gguf_ignored: Sequence[str] = ROPE_TENSORS
    hf_ignored: Sequence[str] = ()
    hf_copies: Callable[[DecoderConfig], Mapping[str, str]] = lambda _config: {}
    hf_name: Callable[[str], str] = lambda name: name


# Attributes of config.json that do not change what the forward pass computes.
NEUTRAL = frozenset(
    "_attn_implementation_autoset _name_or_path _num_labels add_cross_attention architectures "
    "attention_dropout attn_pdrop auto_map "
    "begin_suppress_tokens cache_implementation gradient_checkpointing "
    "bos_token_id chunk_size_feed_forward classifier_dropout cross_attention_hidden_size "
    "decoder_start_token_id dtype embd_pdrop eos_token_id finetuning_task forced_bos_token_id "
    "forced_eos_token_id hidden_dropout id2label initializer_range is_encoder_decoder is_llama_config "
    "label2id model_type output_attentions output_hidden_states pad_token_id pretraining_tp problem_type "
    "resid_pdrop return_dict sep_token_id summary_activation summary_first_dropout summary_proj_to_labels "
    "summary_type summary_use_proj task_specific_params tokenizer_class torch_dtype "
    "transformers.js_config transformers_version unsloth_fixed unsloth_version use_cache".split()
)


def check_hf(
    config: Mapping[str, Any],
    defaults: Mapping[str, Any],
    handled: Collection[str],
    architecture: str,
    source: str,
    activation: str = "hidden_act",
) -> None:
    """Check that a config.json is one of this family, and that the decoder implements all that it says.

    Args:
        config: its attributes.
        defaults: those of transformers' configuration of this family.
        handled: attributes that the family translates; any other must be neutral or at its default.
        architecture: the class that config.json names.
        source: the file or folder, for messages.
        activation: the attribute that names the activation.

    Raises:
        EpoError: another family's model_type, an unknown activation, or attributes that are not handled, all listed.
    """
    if config["model_type"] != defaults["model_type"]:
        raise EpoError(
            f"{source}: model_type {config['model_type']!r} does not go with architecture {architecture!r}, "
            f"whose model_type is {defaults['model_type']!r}"
        )
    if config[activation] not in ACTIVATIONS:
        raise EpoError(f"{source}: {activation}={config[activation]!r} is not one of {', '.join(sorted(ACTIVATIONS))}")
    unhandled = [
        f"{name}={value!r}"
        for name, value in sorted(config.items())
        if name not in handled and name not in NEUTRAL and not (name in defaults and defaults[name] == value)
    ]
    if unhandled:
        raise EpoError(f"{source}: config.json has settings that are not supported: {', '.join(unhandled)}")


def check_fixed(config: Mapping[str, Any], fixed: Mapping[str, Sequence[object]], source: str) -> None:
    """Check that attributes of a config.json have the only values that the decoder implements.

    Args:
        config: its attributes.
        fixed: attribute -> the values that it may have; it may also be absent.
        source: the file or folder, for messages.

    Raises:
        EpoError: another value, with those that it may have.
    """
    wrong = [
        f"{name}={config[name]!r}, where {' or '.join(map(repr, values))} is read"
        for name, values in fixed.items()
        if name in config and config[name] not in values
    ]
    if wrong:
        raise EpoError(f"{source}: config.json has settings that are not supported: {', '.join(wrong)}")


# Attributes of config.json that most families have, with the settings' names in `DecoderConfig`.
SIZES = {
    "head_dim": "head_dim",
    "hidden_act": "activation",
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "max_position_embeddings": "max_positions",
    "num_attention_heads": "heads",
    "num_hidden_layers": "layers",
    "num_key_value_heads": "kv_heads",
    "tie_word_embeddings": "tied",
    "vocab_size": "vocab_size",
}


def hf_settings(config: Mapping[str, Any], names: Mapping[str, str], source: str) -> dict[str, Any]:
    """Settings of a decoder that a config.json names, checked one by one.

    Args:
        config: its attributes.
        names: attribute -> the setting's name in `DecoderConfig`.
        source: the file or folder, for messages.

    Raises:
        EpoError: impossible values, all listed.
    """
    settings = {setting: config.get(name) for name, setting in names.items()}
    check_settings(settings, source)
    return settings


def gguf_settings(
    metadata: Mapping[str, Any], handled: Mapping[str, str], others: Collection[str], source: str
) -> dict[str, Any]:
    """Settings of a decoder that a GGUF file's metadata names, checked one by one.

    Args:
        metadata: every key with its value.
        handled: keys that must be there, each with the setting's name in `DecoderConfig`; all of one family's prefix.
        others: keys that may be there, without the prefix.
        source: the file, for messages.

    Raises:
        EpoError: keys that are missing, or unknown ones with the family's prefix, all listed; an impossible value.
    """
    prefix = next(iter(handled)).partition(".")[0] + "."
    keys = {key for key in metadata if key.startswith(prefix)}
    unknown = sorted(keys - set(handled) - {prefix + other for other in others})
    missing = sorted(set(handled) - keys)
    problems = [f"has {key}, which is not supported" for key in unknown] + [f"lacks {key}" for key in missing]
    if problems:
        raise EpoError(f"{source}: the metadata {', '.join(problems)}")
    settings = {name: metadata[key] for key, name in handled.items()}
    check_settings(settings, source)
    return settings


LARGEST = 2**31 - 1


def check_settings(settings: Mapping[str, Any], source: str) -> None:
    """Check that settings, named as in `DecoderConfig`, have values that a decoder can have.

    Raises:
        EpoError: listing every one that has not.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(DecoderConfig)}
    wants = {
        "int": f"a whole number from 1 to {LARGEST}",
        "float": "a finite number, not negative",
        "bool": "true or false",
        "float | None": "a finite number above 0, or nothing",
        "str": "a text",
    }
    wrong = [
        f"{name}={value!r} where {wants[str(kinds[name])]} is read"
        for name, value in settings.items()
        if str(kinds[name]) in wants and not _possible(str(kinds[name]), value)
    ]
    if wrong:
        raise EpoError(f"{source}: not a valid configuration: {', '.join(wrong)}")


def decoder_config(source: str, **settings: Any) -> DecoderConfig:
    """The configuration with these settings, checked one by one and against each other.

    Raises:
        EpoError: settings that no decoder can have.
    """
    check_settings(settings, source)
    config = DecoderConfig(**settings)
    problems = []
    if config.heads % config.kv_heads:
        problems.append(f"{config.kv_heads} key and value heads do not divide {config.heads} heads")
    if config.rotary_dim > config.head_dim:
        problems.append(f"rotary positions turn {config.rotary_dim} components of a head's {config.head_dim}")
    if config.tied and config.head_bias:
        problems.append("a tied head has no bias of its own")
    for name, values in (("layer_rotary", config.layer_rotary), ("windows", config.windows)):
        if values and len(values) != config.layers:
            problems.append(f"{len(values)} {name} do not go with {config.layers} layers")
    if problems:
        raise EpoError(f"{source}: not a valid configuration: {', '.join(problems)}")
    return config


def _possible(kind: str, value: object) -> bool:
    if kind in ("bool", "str"):
        return isinstance(value, bool if kind == "bool" else str)
    if kind == "float | None":
        return value is None or (_possible("float", value) and value != 0)
    if isinstance(value, bool) or not isinstance(value, int if kind == "int" else (int, float)):
        return False
    return 1 <= value <= LARGEST if kind == "int" else 0 <= value < math.inf
