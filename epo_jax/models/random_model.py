"""Models with random weights: `random:NAME` for a shipped configuration, `random:CONFIG.json` for any other.

For benchmarks and plans, which ask for a model's shape and not for what it knows.
"""

from __future__ import annotations

import importlib.resources
import math
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.sharding import Mesh, Sharding
from jaxtyping import Float32
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from epo_jax.axes import PRNGKey
from epo_jax.errors import EpoError
from epo_jax.models.config import DecoderConfig
from epo_jax.models.decoder import abstract_decoder
from epo_jax.models.device_room import check_room
from epo_jax.models.families import family_of_hf
from epo_jax.models.filling import Shardings
from epo_jax.models.hf_folder import read_architecture, read_config
from epo_jax.models.language_model import LanguageModel
from epo_jax.models.on_mesh import mesh_for
from epo_jax.parallel.sharding import layout

RANDOM = "random:"
SEED = 0
_CONFIGS = importlib.resources.files("epo_jax.models") / "configs"


def shipped_configs() -> list[str]:
    """Names of the configurations that the package holds."""
    return sorted(entry.name.removesuffix(".json") for entry in _CONFIGS.iterdir() if entry.name.endswith(".json"))


def load_random(name: str, dtype: str, mesh: Mesh | str | None = None, fsdp: bool = False) -> LanguageModel:
    """A model with random weights, always the same ones.

    Args:
        name: "random:" and a shipped configuration's name, or the path of a config.json in Hugging Face format.
        dtype: a key of `DTYPES`.
        mesh: devices that parameters are made on, each its own parts; as for `load_model`.
        fsdp: as for `load_model`.

    Returns:
        The model, its weights normal with the configuration's initializer_range, its norms at one and its biases at
        zero, the same on all meshes, by default made on the default device. Token i of its tokenizer
        has the text "t{i}".

    Raises:
        EpoError: an unknown name, a configuration that cannot be used, or one that the device has no room for.
    """
    config, deviation = random_config(name, dtype)
    found = mesh_for(mesh, config, fsdp)
    if found is None:
        params = random_parameters(config, deviation, name)
    else:
        lies = layout(config, found, fsdp)
        params = random_parameters(config, deviation, name, lies.on(found), lies.config)
        config = lies.config
    return LanguageModel(abstract_decoder(config)[0], params, numbered_tokenizer(config.vocab_size), config, name)


def random_config(name: str, dtype: str) -> tuple[DecoderConfig, float]:
    """The configuration that a name stands for, and the standard deviation of its random weights.

    Raises:
        EpoError: an unknown name, or a configuration that cannot be used.
    """
    what = name.removeprefix(RANDOM)
    if what in shipped_configs():
        with importlib.resources.as_file(_CONFIGS / f"{what}.json") as path:
            return _read(path, name, dtype)
    path = Path(what)
    try:
        path = path.expanduser()
        found = path.is_file()
    except (OSError, RuntimeError):
        # A text that cannot be a path, such as one that is too long or names an unknown user's home.
        found = False
    if not found:
        raise EpoError(
            f"--model={name}: neither a shipped configuration nor the path of a config.json; shipped are "
            f"{', '.join(shipped_configs())}"
        )
    return _read(path, str(path), dtype)


def random_parameters(
    config: DecoderConfig,
    deviation: float,
    source: str,
    sharding: Shardings | None = None,
    padded: DecoderConfig | None = None,
) -> nnx.State:
    """Random parameters of a decoder, made on the device without a copy in another dtype.

    Args:
        config: the decoder's settings.
        deviation: standard deviation of matrices and embeddings.
        source: the model's name, for messages.
        sharding: how parameters lie on devices; by default all on the default device.
        padded: the same settings with the room that arrays have, zeros where nothing is drawn.

    Raises:
        EpoError: the device has no room for them.
    """
    _, abstract = abstract_decoder(config)
    shapes = {path: variable.get_value().shape for path, variable in nnx.to_flat_state(abstract)}
    flat = nnx.to_flat_state(abstract_decoder(padded or config)[1])
    rooms = {path: variable.get_value() for path, variable in flat}
    lies = {path: sharding(".".join(map(str, path)), one.shape) if sharding else None for path, one in rooms.items()}
    check_room(f"--model={source}: its", rooms.values(), list(lies.values()))
    key = jax.random.key(SEED, impl="threefry2x32")
    filled = []
    for path, variable in flat:
        name, room, where = ".".join(map(str, path)), rooms[path], lies[path]
        if name.endswith((".scale", ".bias")):
            array = _constant(float(name.endswith(".scale")), room.shape, room.dtype, where)
        else:
            # By name, so that a parameter keeps its numbers whatever else a model has.
            its_key = jax.random.fold_in(key, zlib.crc32(name.encode()))
            array = _normal(its_key, jnp.float32(deviation), shapes[path], room.shape, room.dtype, where)
        filled.append((path, variable.replace(array)))
    return nnx.from_flat_state(filled)


def numbered_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of words: token i is "t{i}", and words are separated by white space; there are no special tokens.

    Like a byte-level vocabulary that lacks a byte, it leaves out what it has no token for.
    """
    # Words that are tokens are taken whole; a model of words would need a token for all others, and the text "dog"
    # would then be one token like any other.
    words = models.BPE({f"t{index}": index for index in range(vocab_size)}, [], ignore_merges=True)
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    whole: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False
    )
    return whole


def _read(path: Path, source: str, dtype: str) -> tuple[DecoderConfig, float]:
    family = family_of_hf(read_architecture(path), source)
    attributes = read_config(path)
    deviation: Any = attributes.get("initializer_range")
    if isinstance(deviation, bool) or not isinstance(deviation, (int, float)) or not 0 < deviation < math.inf:
        raise EpoError(f"{source}: initializer_range is {deviation!r}, where a finite number above 0 is read")
    return family.from_hf(attributes, source, dtype), float(deviation)


def _constant(value: float, shape: tuple[int, ...], dtype: jnp.dtype, where: Sharding | None) -> Array:
    return jax.jit(lambda: jnp.full(shape, value, dtype), out_shardings=where)()


def _normal(
    key: PRNGKey,
    deviation: Float32[Array, ""],
    shape: tuple[int, ...],
    room: tuple[int, ...],
    dtype: jnp.dtype,
    where: Sharding | None,
) -> Array:
    """Normal numbers of a shape, in an array that may have more room, each device drawing its own part."""
    draw = jax.jit(_drawn, static_argnums=(2, 3, 4), out_shardings=where)
    return draw(key, deviation, shape, room, dtype)


def _drawn(
    key: PRNGKey, deviation: Float32[Array, ""], shape: tuple[int, ...], room: tuple[int, ...], dtype: jnp.dtype
) -> Array:
    # Drawn in float32 and rounded, a layer at a time: draws in bfloat16 take few values and have a mean that is not
    # zero, and all of a stack at once would need several times its memory.
    def one(key: PRNGKey, shape: tuple[int, ...], room: tuple[int, ...]) -> Array:
        drawn = (deviation * jax.random.normal(key, shape, jnp.float32)).astype(dtype)
        return jnp.pad(drawn, [(0, more - size) for size, more in zip(shape, room, strict=True)])

    if len(shape) < 3:
        return one(key, shape, room)
    return jax.lax.map(lambda key: one(key, shape[1:], room[1:]), jax.random.split(key, shape[0]))
