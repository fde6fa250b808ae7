"""Other implementations as subprocesses that work only while they are asked to; their side is in scripts/peers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

import epo_jax
from benchmarking.settings import LOGIT, NEURON, Settings, peer_source
from epo_jax.errors import EpoError

FOLDER = Path(__file__).resolve().parents[1] / "peers"
ENDING_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Peer:
    """A peer that has loaded its model and waits.

    Attributes:
        flag: what asked for it, told when it fails.
        process: its process.
        log: what it writes to standard error.
        ready: what it said when it was ready; "seconds" of one iteration among it.
    """

    flag: str
    process: subprocess.Popen[str]
    log: Path
    ready: dict[str, Any]

    def seconds(self, iterations: int) -> float:
        """Seconds of one iteration, out of some that it makes now.

        Raises:
            EpoError: it ended.
        """
        return float(_asked(self.flag, self.process, self.log, str(iterations))["seconds"]) / iterations


@contextlib.contextmanager
def started(flag: str, script: Path, python: str, task: dict[str, Any]) -> Iterator[Peer]:
    """A peer, from when it is ready until the end of the block.

    Args:
        flag: what asked for it.
        script: its program.
        python: the Python that runs it.
        task: what it is to run.

    Raises:
        EpoError: it ended before it was ready; says its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [python, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # Everything is on this machine; a look at the hub would only wait.
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
        try:
            yield Peer(flag, process, log, _asked(flag, process, log, json.dumps(task)))
        finally:
            _end(process)


def dreamy_task(
    lm: epo_jax.LanguageModel, settings: Settings, feature: str, ids: Int[np.ndarray, "P T"]
) -> dict[str, Any]:
    """What dreamy is to run: the same search, from the same prompts."""
    neuron = NEURON.fullmatch(feature)
    if neuron:
        target = {"layer": int(neuron[1]), "neuron": int(neuron[2])}
    else:
        (token,) = lm.tokenizer.encode(feature.removeprefix(LOGIT), add_special_tokens=False)
        target = {"token": token}
    return {
        **_common(lm, settings),
        "folder": str(Path(settings.dreamy or "").absolute()),
        "feature": target,
        "ids": ids.tolist(),
        "batches": sorted({min(batch, settings.candidates) for batch in settings.dreamy_batches}),
        **{
            name: getattr(settings.config, name)
            for name in ("population", "children", "length", "top_k", "lambda_min", "lambda_max", "restart_every")
        },
    }


def nanogcg_task(lm: epo_jax.LanguageModel, settings: Settings, tokenizer: str) -> dict[str, Any]:
    """What nanoGCG is to run: as many candidates, of as many tokens, for a target of one token.

    Args:
        lm: the model.
        settings: what is measured.
        tokenizer: folder to write the tokenizer to.

    Raises:
        EpoError: the tokenizer writes no text of that many tokens.
    """
    lm.tokenizer.save_pretrained(tokenizer)
    length = settings.config.length
    for piece in ("x", "!", _some_token(lm)):
        for text in (" ".join([piece] * length), piece * length):
            if len(lm.tokenizer.encode(text, add_special_tokens=False)) == length:
                return {
                    **_common(lm, settings),
                    "tokenizer": tokenizer,
                    "start": text,
                    "target": _target(lm),
                    "candidates": settings.candidates,
                    "top_k": settings.config.top_k,
                }
    raise EpoError(f"--nanogcg: found no text of {length} equal tokens to start nanoGCG from; leave it out")


def _target(lm: epo_jax.LanguageModel) -> str:
    texts = (" dog", _some_token(lm))
    return min(texts, key=lambda text: abs(len(lm.tokenizer.encode(text, add_special_tokens=False)) - 1))


def _some_token(lm: epo_jax.LanguageModel) -> str:
    return str(lm.tokenizer.decode([lm.config.vocab_size // 2]))


def _common(lm: epo_jax.LanguageModel, settings: Settings) -> dict[str, Any]:
    backend = jax.default_backend()
    if backend not in ("cpu", "gpu"):
        raise EpoError(f"--dreamy and --nanogcg: the peers run on a CPU or a GPU, and this is a {backend}")
    return {
        "source": peer_source(settings.model),
        "device": "cuda" if backend == "gpu" else "cpu",
        "dtype": lm.config.dtype,
        "seed": settings.seed,
    }


def _asked(flag: str, process: subprocess.Popen[str], log: Path, question: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended, and its last line says why
        process.stdin.write(question + "\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        code = process.wait()
        said = log.read_text(errors="replace").strip().splitlines()
        raise EpoError(f"{flag}: the peer ended with code {code}: {said[-1] if said else 'it said nothing'}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _end(process: subprocess.Popen[str]) -> None:
    """The end of its input ends a peer; one that goes on working is ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
