"""Parameters are filled from tensors in the order of the files, in place, with little on the host and as they are."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys
import time
import tracemalloc
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import save_file

import epo_jax
from epo_jax.models import device_room, filling
from epo_jax.models.checkpoint import Checkpoint, Weight, transposed
from epo_jax.models.config import DecoderConfig, Rotary
from epo_jax.models.families.gpt_neox import FAMILY as NEOX
from epo_jax.models.filling import load_parameters
from epo_jax.models.safetensors_file import open_shard, read_tensor
from epo_jax.parallel import make_mesh

TYPES = {"float16": np.float16, "bfloat16": jnp.bfloat16, "float32": np.float32, "float64": np.float64}


def config_of(**changes: Any) -> DecoderConfig:
    switches = {"norm": "layer", "gated": False, "attention_bias": True, "output_bias": True, "mlp_bias": True}
    sizes = {"vocab_size": 40, "width": 16, "layers": 3, "heads": 2, "kv_heads": 2, "head_dim": 8, "mlp_width": 24}
    settings: dict[str, Any] = {"max_positions": 32, "norm_eps": 1e-5, "rotary": (Rotary((1.0,)),), **switches, **sizes}
    return DecoderConfig(**{**settings, **changes})


def tensors_of(config: DecoderConfig, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Random tensors of a GPT-NeoX, named as in its files."""
    width, rng = config.width, np.random.default_rng(0)
    projections = {
        "attention.query_key_value": (3 * width, width),
        "attention.dense": (width, width),
        "mlp.dense_h_to_4h": (config.mlp_width, width),
        "mlp.dense_4h_to_h": (width, config.mlp_width),
    }
    shapes: dict[str, tuple[int, ...]] = {"gpt_neox.embed_in.weight": (config.vocab_size, width)}
    for layer in range(config.layers):
        start = f"gpt_neox.layers.{layer}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{start}.{name}.weight": (width,), f"{start}.{name}.bias": (width,)}
        for name, shape in projections.items():
            shapes |= {f"{start}.{name}.weight": shape, f"{start}.{name}.bias": shape[:1]}
    shapes |= dict.fromkeys(("gpt_neox.final_layer_norm.weight", "gpt_neox.final_layer_norm.bias"), (width,))
    shapes["embed_out.weight"] = (config.vocab_size, width)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def checkpoint_of(tensors: Mapping[str, np.ndarray], read: Any = None) -> Checkpoint:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return Checkpoint("the checkpoint", shapes, read or (lambda name: tensors[name].copy()))


def by_path(params: nnx.State) -> dict[str, jax.Array]:
    return {".".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(params)}


def fill(config: DecoderConfig, tensors: Mapping[str, np.ndarray], **more: Any) -> dict[str, jax.Array]:
    return by_path(load_parameters(config, NEOX.hf_weights, checkpoint_of(tensors), **more))


def test_each_layer_comes_from_its_own_tensors() -> None:
    config = config_of()
    tensors = tensors_of(config)
    found = fill(config, dict(reversed(tensors.items())))
    start = "gpt_neox.layers.{}."
    for layer in range(config.layers):
        fused = tensors[start.format(layer) + "attention.query_key_value.weight"].reshape(2, 3, 8, 16)
        for part, name in enumerate(("query", "key", "value")):
            expected = fused[:, part].reshape(16, 16).T
            np.testing.assert_array_equal(found[f"blocks.attention.{name}.kernel"][layer], expected)
        expected = tensors[start.format(layer) + "mlp.dense_4h_to_h.weight"].T
        np.testing.assert_array_equal(found["blocks.mlp.down.kernel"][layer], expected)
        expected = tensors[start.format(layer) + "input_layernorm.bias"]
        np.testing.assert_array_equal(found["blocks.attention_norm.bias"][layer], expected)
    np.testing.assert_array_equal(found["head.kernel"], tensors["embed_out.weight"].T)


def test_each_tensor_is_read_once_in_the_order_of_the_checkpoint() -> None:
    config = config_of()
    tensors = tensors_of(config)
    names = list(np.random.default_rng(1).permutation(list(tensors)))
    read: list[str] = []

    def reading(name: str) -> np.ndarray:
        read.append(name)
        return tensors[name].copy()

    load_parameters(config, NEOX.hf_weights, checkpoint_of({name: tensors[name] for name in names}, reading))
    assert read == names


def test_no_tensor_is_kept_while_the_next_is_read() -> None:
    config = config_of()
    tensors = tensors_of(config, np.float64)
    kept: list[weakref.ref[np.ndarray]] = []

    def reading(name: str) -> np.ndarray:
        assert not any(reference() is not None for reference in kept), name
        tensor = tensors[name].copy()
        kept.append(weakref.ref(tensor))
        return tensor

    load_parameters(config, NEOX.hf_weights, checkpoint_of(tensors, reading))
    assert len(kept) == len(tensors)


def _peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(("copying", "most"), [(False, 1.3), (True, 2.3)])
@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
def test_the_host_holds_a_tensor_and_what_is_made_of_it(stored: str, copying: bool, most: float) -> None:
    # Layers have the largest tensors: a whole parameter may keep the memory that it was read into.
    config = config_of(width=256, mlp_width=4096, heads=4, kv_heads=4, head_dim=64)
    shapes = checkpoint_of(tensors_of(config, TYPES[stored])).shapes
    weights = [
        dataclasses.replace(weight, transform=lambda tensor, _: tensor.T.copy())
        if copying and weight.transform is transposed
        else weight
        for weight in NEOX.hf_weights
    ]

    def reading(name: str) -> np.ndarray:
        # The runtime gives memory that it borrowed back from a thread of its own, which may need a core first.
        time.sleep(0.002)
        # Made as it is read, so that only what is held counts.
        return np.ones(shapes[name], TYPES[stored])

    checkpoint = Checkpoint("made", shapes, reading)
    load_parameters(config, weights, checkpoint)
    largest = max(math.prod(shape) for shape in shapes.values()) * np.dtype(TYPES[stored]).itemsize
    # That thread may still be late now and then; what loading itself holds is in every peak, so one that is low tells.
    peaks = (_peak_of(lambda: load_parameters(config, weights, checkpoint)) for _ in range(30))
    assert any(largest <= peak < most * largest for peak in peaks)


def test_programs_are_compiled_for_shapes_and_not_for_layers() -> None:
    jax.clear_caches()
    small, large = config_of(layers=2), config_of(layers=7)
    fill(small, tensors_of(small))
    # Vectors of 16 and 24, matrices of 16 x 16, 16 x 24 and 24 x 16.
    assert filling.write_layer._cache_size() == 5
    fill(small, tensors_of(small))
    assert filling.write_layer._cache_size() == 5
    fill(large, tensors_of(large))
    assert filling.write_layer._cache_size() == 10


def test_layers_are_written_into_memory_that_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of()
    places: dict[tuple[int, ...], set[int]] = {}
    write = filling.write_layer

    def watched(stack: jax.Array, *more: Any) -> jax.Array:
        before = stack.unsafe_buffer_pointer()
        written = write(stack, *more)
        assert stack.is_deleted()
        assert written.unsafe_buffer_pointer() == before
        places.setdefault(written.shape, set()).add(before)
        return written

    monkeypatch.setattr(filling, "write_layer", watched)
    found = fill(config, tensors_of(config))
    assert places[(3, 16, 24)] == {found["blocks.mlp.up.kernel"].unsafe_buffer_pointer()}


@pytest.mark.parametrize("loaded", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("stored", list(TYPES))
def test_numbers_are_converted_as_numpy_does(stored: str, loaded: str) -> None:
    config = config_of(vocab_size=256, width=256, mlp_width=256, heads=4, kv_heads=4, head_dim=64, dtype=loaded)
    tensors = tensors_of(config, TYPES[stored])
    # All float16 numbers, those below the normal ones, infinite ones and those that are none included.
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    with np.errstate(invalid="ignore"):
        numbers = numbers.astype(TYPES[stored])
        # Rounded to float32 on the way to float16, this would be 1.
        numbers[0, 0] = 1 + 2**-11 + 2**-40
        expected = numbers.astype(TYPES[loaded]).astype(np.float32)
    for name in ("gpt_neox.embed_in.weight", "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"):
        tensors[name] = numbers
    found = fill(config, tensors)
    for array in (found["embedding.embedding"], found["blocks.mlp.up.kernel"][1].T):
        assert array.dtype == loaded
        np.testing.assert_array_equal(np.asarray(array).astype(np.float32), expected)
    assert found["norm.scale"].dtype == np.float32


@pytest.mark.parametrize(("stored", "kind"), [(TYPES[name], name) for name in TYPES])
def test_safetensors_are_read_as_they_were_saved(stored: Any, kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal(shape).astype(stored) for name, shape in (("b", (5, 7)), ("a", (3,)), ("c", ()))
    }
    tensors["d"] = np.zeros((0, 4), stored)
    save_file(tensors, tmp_path / "m.safetensors")
    shard = open_shard(tmp_path / "m.safetensors")
    assert shard.entries.keys() == tensors.keys()
    offsets = [entry.offset for entry in shard.entries.values()]
    assert offsets == sorted(offsets)
    for name, entry in shard.entries.items():
        found = read_tensor(name, entry)
        assert found.dtype == np.dtype(stored)
        np.testing.assert_array_equal(found, tensors[name])


def test_progress_tells_the_bytes_of_parameters_up_to_all() -> None:
    config = config_of(dtype="bfloat16")
    told: list[tuple[int, int]] = []
    found = fill(config, tensors_of(config), progress=lambda *bytes_: told.append(bytes_))
    done, everything = zip(*told, strict=True)
    assert set(everything) == {sum(array.nbytes for array in found.values())}
    assert done[0] == 0
    assert done[-1] == everything[0]
    assert all(after > before for before, after in itertools.pairwise(done))
    assert len(done) == 1 + len(tensors_of(config)) + 2 * 2 * config.layers  # the fused tensors have three parts


def test_a_model_tells_its_progress(tiny_folder: Path) -> None:
    told: list[tuple[int, int]] = []
    epo_jax.load_model(tiny_folder, progress=lambda *bytes_: told.append(bytes_))
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]


def test_nothing_is_made_before_sizes_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of()
    tensors = tensors_of(config) | {"gpt_neox.layers.2.mlp.dense_4h_to_h.bias": np.ones(17, np.float32)}

    def refused(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(filling, "_zeros", refused)
    with pytest.raises(epo_jax.EpoError, match=r"layers.2.mlp.dense_4h_to_h.bias has shape \(17,\)"):
        load_parameters(config, NEOX.hf_weights, checkpoint_of(tensors, refused))


def test_parameters_that_the_device_has_no_room_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of()
    monkeypatch.setattr(device_room, "_room", lambda _device: 1000)
    with pytest.raises(epo_jax.EpoError, match=r"^the checkpoint: its [\d,]+ parameters take 0.0 GiB, and the device"):
        fill(config, tensors_of(config))
    mesh = make_mesh("data:1")
    with pytest.raises(epo_jax.EpoError, match=r"^the checkpoint: its [\d,]+ parameters take 0.0 GiB, and the device"):
        fill(config, tensors_of(config), sharding=lambda *_: NamedSharding(mesh, PartitionSpec()))


def test_a_transform_that_fails_names_the_tensor_and_the_parameter() -> None:
    config = config_of()
    tensors = tensors_of(config)
    fused = "gpt_neox.layers.1.attention.query_key_value.weight"
    tensors[fused] = tensors[fused].reshape(16, 48)
    with pytest.raises(epo_jax.EpoError, match=rf"{fused} has shape \(16, 48\), .* of blocks.attention.[a-z]+.kernel"):
        fill(config, tensors)


@pytest.mark.parametrize("block", [1, 7, 640, 2**20])
def test_a_copy_must_be_one_to_its_last_number(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "BLOCK", block)
    config = config_of(tied=True)
    tensors, copies = tensors_of(config), {"embed_out.weight": "gpt_neox.embed_in.weight"}
    tensors["embed_out.weight"] = tensors["gpt_neox.embed_in.weight"].copy()
    fill(config, tensors, copies=copies)
    tensors["embed_out.weight"][-1, -1] += 1
    with pytest.raises(epo_jax.EpoError, match=r"embed_out.weight differs from gpt_neox.embed_in.weight"):
        fill(config, tensors, copies=copies)
    tensors["embed_out.weight"] = tensors["gpt_neox.embed_in.weight"].T.copy()
    with pytest.raises(epo_jax.EpoError, match=r"embed_out.weight differs from gpt_neox.embed_in.weight"):
        fill(config, tensors, copies=copies)


def test_a_tensor_may_give_several_parameters_that_are_no_stacks() -> None:
    config = config_of(layers=1)
    tensors = tensors_of(config)
    weights = [weight for weight in NEOX.hf_weights if weight.parameter not in ("norm.scale", "norm.bias")]
    both = tensors.pop("gpt_neox.final_layer_norm.weight"), tensors.pop("gpt_neox.final_layer_norm.bias")
    tensors["norms"] = np.stack(both)
    for row, parameter in enumerate(("norm.scale", "norm.bias")):
        weights.append(Weight(parameter, "norms", lambda tensor, _, row=row: tensor[row]))
    found = by_path(load_parameters(config, weights, checkpoint_of(tensors)))
    np.testing.assert_array_equal(found["norm.scale"], both[0])
    np.testing.assert_array_equal(found["norm.bias"], both[1])


@pytest.mark.slow
def test_parameters_lie_where_they_are_asked_for(tiny_folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ON_DEVICES, str(tiny_folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ON_DEVICES = """
import os, sys
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=4"
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P, SingleDeviceSharding
import epo_jax
from epo_jax.models import filling

mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
last = SingleDeviceSharding(jax.devices()[-1])

def lies(path, shape):
    if path.startswith("blocks.") and path.endswith(".kernel") and shape[1] % 2 == 0:
        return NamedSharding(mesh, P(None, "model", None))
    if path == "embedding.embedding":
        return NamedSharding(mesh, P(None, ("data", "model")))
    return last if path.endswith("norm.scale") else NamedSharding(mesh, P())

plain = epo_jax.load_model(sys.argv[1], "float32")
shared = epo_jax.load_model(sys.argv[1], "float32", sharding=lies)
seen = set()
for (path, one), other in zip(
    jax.tree_util.tree_leaves_with_path(plain.params), jax.tree.leaves(shared.params), strict=True
):
    name = ".".join(str(key.key) for key in path if hasattr(key, "key") and key.key != "value")
    wanted = lies(name, other.shape)
    assert other.sharding.is_equivalent_to(wanted, other.ndim), (name, other.sharding, wanted)
    assert other.addressable_shards[0].data.shape == wanted.shard_shape(other.shape)
    np.testing.assert_array_equal(one, other)
    seen.add(str(wanted))
assert len(seen) == 4, seen
"""
