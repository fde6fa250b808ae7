"""Measure what loading a model takes: memory of the process, and time.

python scripts/measure_loading.py --gigabytes=2

makes a random checkpoint of that size in a temporary folder (the shape of a Llama, safetensors in several shards),
loads it in a process of its own, and prints the size of the parameters and of the largest tensor, the most memory that
the process had above what it had before, how much of that is not parameters, and the time. --stored=float32 makes it of
another type, --dtype=float32 loads it in another; --model=smollm2-135m measures that model and makes none. It needs
Linux, which tells a process the most memory that it had.
"""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import save_file

import epo_jax
from epo_jax import command_line
from epo_jax.errors import EpoError
from epo_jax.models.config import DTYPES
from epo_jax.models.random_model import numbered_tokenizer

GIGABYTES = flags.DEFINE_float("gigabytes", 2.0, "size of the random checkpoint, in 1e9 bytes", lower_bound=0.001)
STORED = flags.DEFINE_enum("stored", "bfloat16", ["float32", "bfloat16", "float16"], "type of its tensors")
SHARDS = flags.DEFINE_integer("shards", 4, "files that they are in", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", None, list(DTYPES), "of the parameters; by default --stored, or the model's default")
MODEL = flags.DEFINE_string("model", None, "measure this model, a name, file or folder, instead of a random one")
MEASURE = flags.DEFINE_boolean("measure", False, "be the process that is measured, and print figures as JSON")

PROGRAM = "measure_loading"
VOCABULARY, LAYERS, HEAD = 32000, 16, 64
STATUS = Path("/proc/self/status")


def main() -> None:
    """Make a checkpoint and have another process load it, or be that process."""
    if not STATUS.exists():
        raise EpoError(f"{STATUS} is not there, which tells how much memory the process had; Linux has it")
    if MEASURE.value:
        print(json.dumps(measured(str(MODEL.value), DTYPE.value)))
        return
    if MODEL.value is not None:
        print(report(in_process(MODEL.value, DTYPE.value)))
        return
    with tempfile.TemporaryDirectory(prefix="epo_jax_loading_") as folder:
        try:
            files = make_checkpoint(Path(folder), GIGABYTES.value, STORED.value, SHARDS.value)
        except (OSError, SafetensorError) as error:
            raise EpoError(f"{folder}: cannot be written ({error}); TMPDIR names another place") from error
        print(f"checkpoint: {files / 1e9:.3f} GB of {STORED.value} in {SHARDS.value} files")
        print(report(in_process(folder, DTYPE.value or STORED.value)))


def make_checkpoint(folder: Path, gigabytes: float, stored: str, shards: int) -> int:
    """Save a random model in the shape of a Llama.

    Args:
        folder: where to.
        gigabytes: of 1e9 bytes, about what the tensors take.
        stored: their type.
        shards: files that they are in.

    Returns:
        Bytes of the files.
    """
    # Embedding and head have V x D numbers each, and a layer 4 D x D + 3 D x 8/3 D.
    numbers = gigabytes * 1e9 / jnp.dtype(stored).itemsize
    width = (math.sqrt(VOCABULARY**2 + 12 * LAYERS * numbers) - VOCABULARY) / (12 * LAYERS)
    heads = max(1, round(width / HEAD))
    width = heads * HEAD
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": width * 8 // 3,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    numbered_tokenizer(VOCABULARY).save_pretrained(folder)
    shapes = tensors_of_llama(width, width * 8 // 3)
    generator = np.random.default_rng(0)
    names = list(shapes)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        mine = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        save_file(
            {
                name: (0.02 * generator.standard_normal(shapes[name], np.float32)).astype(jnp.dtype(stored))
                for name in mine
            },
            folder / file,
        )
        weight_map |= dict.fromkeys(mine, file)
    total = sum(math.prod(shape) for shape in shapes.values()) * jnp.dtype(stored).itemsize
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def tensors_of_llama(width: int, mlp_width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors."""
    layer = {
        "input_layernorm": (width,),
        **{f"self_attn.{name}_proj": (width, width) for name in "qkvo"},
        "post_attention_layernorm": (width,),
        **{f"mlp.{name}_proj": (mlp_width, width) for name in ("gate", "up")},
        "mlp.down_proj": (width, mlp_width),
    }
    return {
        "model.embed_tokens.weight": (VOCABULARY, width),
        **{f"model.layers.{number}.{name}.weight": shape for number in range(LAYERS) for name, shape in layer.items()},
        "model.norm.weight": (width,),
        "lm_head.weight": (VOCABULARY, width),
    }


def in_process(model: str, dtype: str | None) -> dict[str, Any]:
    """What a process of its own measures."""
    command = [sys.executable, __file__, "--measure", f"--model={model}"]
    if dtype is not None:
        command.append(f"--dtype={dtype}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        # What it refuses is told as it told it; anything else is told with what it was about.
        _, refused, reason = said.partition(f"{PROGRAM}: error: ")
        raise EpoError(
            reason if refused else f"--model={model}: its process ended with {done.returncode}, saying {said}"
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measured(model: str, dtype: str | None) -> dict[str, Any]:
    """Load a model in this process and tell what it took, in bytes and seconds."""
    # What is imported, and what a first program needs, is no part of what loading takes.
    with tempfile.TemporaryDirectory(prefix="epo_jax_warm_") as folder:
        make_checkpoint(Path(folder), 0.001, STORED.value, 1)
        epo_jax.load_model(folder, dtype)
    gc.collect()
    # From here on the kernel looks for the most memory anew.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = memory("VmRSS"), time.perf_counter()
    lm = epo_jax.load_model(model, dtype)
    seconds, peak = time.perf_counter() - start, memory("VmHWM")
    arrays = {".".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(lm.params)}
    return {
        "dtype": lm.config.dtype,
        "platform": jax.default_backend(),
        "parameters": sum(array.nbytes for array in arrays.values()),
        "largest": max(
            array.nbytes // (lm.config.layers if path.startswith("blocks.") else 1) for path, array in arrays.items()
        ),
        "peak": peak - before,
        "seconds": seconds,
    }


def memory(name: str) -> int:
    """A line of the process's status, in bytes: VmRSS is what it has, VmHWM the most that it had."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def report(figures: dict[str, Any]) -> str:
    """Figures in lines."""
    size, largest = figures["parameters"], figures["largest"]
    # A CPU's arrays are the host's memory.
    on_host = size if figures["platform"] == "cpu" else 0
    beside = figures["peak"] - on_host
    return "\n".join(
        (
            f"parameters: {size / 1e9:.3f} GB in {figures['dtype']}, on a {figures['platform']}",
            f"largest tensor: {largest / 1e9:.3f} GB in {figures['dtype']}",
            f"most memory of the process, above what it had before: {figures['peak'] / 1e9:.3f} GB",
            f"above that and the parameters on the host: {beside / 1e9:.3f} GB, {beside / largest:.2f} largest tensors",
            f"time: {figures['seconds']:.1f} s, {size / 1e9 / figures['seconds']:.2f} GB/s",
        )
    )


if __name__ == "__main__":
    command_line.start(main, PROGRAM)
