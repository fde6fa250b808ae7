"""GGUF files of tiny models as llama.cpp's convert_hf_to_gguf.py writes them: its keys, names and layouts.

Facts from llama.cpp (conversion/*.py) and from the gguf package, whose table gives the tensors' names.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

Config = Mapping[str, Any]
Arch = gguf.MODEL_ARCH


def as_it_is(_name: str, tensor: np.ndarray, _config: Config) -> np.ndarray:
    return tensor


def nothing(_config: Config) -> dict[str, np.ndarray]:
    return {}


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How one family is written.

    Attributes:
        arch: its name in the gguf package.
        keys: writes its metadata, given config.json.
        tensor: (name in safetensors, tensor, config.json) -> the tensor as it is written, None if it is left out.
        more: further tensors, by their names in GGUF files.
    """

    arch: Arch
    keys: Callable[[gguf.GGUFWriter, Config], None]
    tensor: Callable[[str, np.ndarray, Config], np.ndarray | None] = as_it_is
    more: Callable[[Config], dict[str, np.ndarray]] = nothing


def write(folder: Path, family: str, drop: tuple[str, ...] = (), **changes: object) -> Path:
    """Write the model of a folder in Hugging Face format as a GGUF file into that folder.

    Args:
        folder: where the model is.
        family: a key of CONVERSIONS.
        drop: keys of the metadata that are left out.
        changes: keys with other values, with "__" for each dot.

    Returns:
        The file.
    """
    conversion = CONVERSIONS[family]
    config = json.loads((folder / "config.json").read_text())
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[conversion.arch])
    conversion.keys(writer, config)
    add_tokenizer(writer, folder, config["vocab_size"])
    for key, value in changes.items():
        name = key.replace("__", ".")
        kind = {bool: "BOOL", int: "UINT32", float: "FLOAT32", str: "STRING"}[type(value)]
        writer.kv_data[0].pop(name, None)
        writer.add_key_value(name, value, gguf.GGUFValueType[kind])
    for name in drop:
        del writer.kv_data[0][name]
    names = gguf.get_tensor_name_map(conversion.arch, config.get("num_hidden_layers", config.get("n_layer")))
    for name, tensor in load_file(folder / "model.safetensors").items():
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert written is not None, name
        converted = conversion.tensor(name, tensor, config)
        if converted is not None:
            writer.add_tensor(written, np.ascontiguousarray(converted))
    for name, tensor in conversion.more(config).items():
        writer.add_tensor(name, tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    """The byte-level BPE tokenizer of tiny_models, with unused tokens up to the vocabulary's size."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([vocabulary.get(index, f"[PAD{index}]") for index in range(size)])
    control, normal, unused = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL, gguf.TokenType.UNUSED
    kinds = [control if index == 0 else normal if index in vocabulary else unused for index in range(size)]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(0)


def size_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    """Sizes, which the converter writes for nearly every family."""
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def width_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    """How wide a head is."""
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])


def text_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    """What the converter writes for every family that has no code of its own."""
    size_keys(writer, config)
    rope = config["rope_parameters"]
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for name in ("attention_factor", "beta_fast", "beta_slow"):
            if name in rope:
                key = name.replace("attention_", "attn_")
                getattr(writer, f"add_rope_scaling_yarn_{key}")(rope[name])
    if rope["rope_type"] == "longrope":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if config.get("head_dim") is not None:
        width_keys(writer, config)


def head_dim_of(config: Config) -> int:
    width: int = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return width


def llama_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    text_keys(writer, config)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(head_dim_of(config))


def paired(name: str, tensor: np.ndarray, config: Config) -> np.ndarray:
    """Rows of query and key in the order in which neighbours turn together."""
    parts = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    part = name.split(".")[-2]
    if part not in parts:
        return tensor
    heads = config[parts[part]]
    split = tensor.reshape(heads, 2, len(tensor) // heads // 2, *tensor.shape[1:])
    return split.swapaxes(1, 2).reshape(tensor.shape)


def llama3_divisors(config: Config) -> dict[str, np.ndarray]:
    rope = config["rope_parameters"]
    if rope["rope_type"] != "llama3":
        return {}
    width, original = head_dim_of(config), rope["original_max_position_embeddings"]
    divisors = []
    for index in range(0, width, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (index / width)
        if wavelength < original / rope["high_freq_factor"]:
            divisors.append(1.0)
        elif wavelength > original / rope["low_freq_factor"]:
            divisors.append(rope["factor"])
        else:
            span = rope["high_freq_factor"] - rope["low_freq_factor"]
            smooth = (original / wavelength - rope["low_freq_factor"]) / span
            divisors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return {"rope_freqs.weight": np.asarray(divisors)}


def phi3_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    size_keys(writer, config)
    rope = config["rope_parameters"]
    original = config["original_max_position_embeddings"]
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    share = rope.get("partial_rotary_factor", 1.0)
    writer.add_rope_dimension_count(int(share * config["hidden_size"]) // config["num_attention_heads"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_sliding_window(config["sliding_window"] or 0)
    if "long_factor" in rope:
        scale = config["max_position_embeddings"] / original
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))


def phi3_factors(config: Config) -> dict[str, np.ndarray]:
    rope = config["rope_parameters"]
    lengths = ("long", "short") if "long_factor" in rope else ()
    return {f"rope_factors_{length}.weight": np.asarray(rope[f"{length}_factor"]) for length in lengths}


def gpt2_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    # Whatever n_inner is.
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def as_out_in(name: str, tensor: np.ndarray, _config: Config) -> np.ndarray:
    return tensor.T if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else tensor


def phi2_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    heads, width = config["num_attention_heads"], config["hidden_size"]
    # Whatever intermediate_size and num_key_value_heads are.
    size_keys(writer, {**config, "intermediate_size": 4 * width, "num_key_value_heads": heads})
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_rope_dimension_count(int(config["rope_parameters"]["partial_rotary_factor"] * width) // heads)
    writer.add_add_bos_token(False)


def gemma_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    size_keys(writer, config)
    width_keys(writer, config)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def gemma2_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    gemma_keys(writer, config)
    writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    writer.add_sliding_window(config["sliding_window"])


def gemma3_keys(writer: gguf.GGUFWriter, config: Config) -> None:
    full, sliding = (config["rope_parameters"][kind] for kind in ("full_attention", "sliding_attention"))
    text_keys(writer, {**config, "rope_parameters": full})
    writer.add_rope_freq_base_swa(sliding["rope_theta"])
    if config["final_logit_softcapping"]:
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    writer.add_sliding_window(config["sliding_window"])


def plus_one(name: str, tensor: np.ndarray, _config: Config) -> np.ndarray:
    return tensor + 1 if name.endswith("norm.weight") else tensor


def plus_one_without_head(name: str, tensor: np.ndarray, config: Config) -> np.ndarray | None:
    return None if name == "lm_head.weight" else plus_one(name, tensor, config)


CONVERSIONS: Mapping[str, Conversion] = {
    "llama": Conversion(Arch.LLAMA, llama_keys, paired, llama3_divisors),
    "mistral": Conversion(Arch.LLAMA, llama_keys, paired, llama3_divisors),
    "smollm3": Conversion(Arch.SMOLLM3, llama_keys, paired, llama3_divisors),
    "qwen2": Conversion(Arch.QWEN2, text_keys),
    "qwen3": Conversion(Arch.QWEN3, text_keys),
    "phi3": Conversion(Arch.PHI3, phi3_keys, more=phi3_factors),
    "olmo2": Conversion(Arch.OLMO2, text_keys),
    "gpt2": Conversion(Arch.GPT2, gpt2_keys, as_out_in),
    "phi": Conversion(Arch.PHI2, phi2_keys),
    "gemma": Conversion(Arch.GEMMA, gemma_keys, plus_one_without_head),
    "gemma2": Conversion(Arch.GEMMA2, gemma2_keys, plus_one_without_head),
    "gemma3": Conversion(Arch.GEMMA3, gemma3_keys, plus_one),
}
