"""A corpus streamed through a model once, for thousands of features together; goes on where it was broken off."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from epo_jax.corpus import files
from epo_jax.corpus.groups import Group
from epo_jax.corpus.hits import Hits, merged, no_hits
from epo_jax.corpus.programs import scan_windows
from epo_jax.corpus.sources import Document
from epo_jax.corpus.windows import Window, batches_of, padded, windows_of
from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.models.fingerprint import numbers_fingerprint, weights_fingerprint
from epo_jax.parallel import processes
from epo_jax.parallel.mesh import DATA
from epo_jax.parallel.placing import fetched, on_devices
from epo_jax.scoring.template import Template, frozen_tokens

KEEP = 64


@dataclasses.dataclass(frozen=True)
class ScanConfig:
    """How a corpus is scanned.

    Attributes:
        length: tokens of a dream, T; hits have at least T - 1 tokens of their document before them.
        context: tokens of a window.
        keep: hits that stay for each feature.
        batch: windows that a device runs at a time.
        tokens: after so many of the corpus the scan ends; None for all.
        save_every: seconds between savings.
    """

    length: int = 12
    context: int = 256
    keep: int = KEEP
    batch: int = 8
    tokens: int | None = None
    save_every: float = 60.0


@dataclasses.dataclass(frozen=True)
class ScanProgress:
    """How far a scan is.

    Attributes:
        tokens: of the corpus, each counted once.
        positions: at which features were read.
        seconds: in all parts of the scan.
        rate: tokens per second since the last saving.
        done: whether that is all.
    """

    tokens: int
    positions: int
    seconds: float
    rate: float
    done: bool


def scan(
    lm: LanguageModel,
    documents: Iterable[Document],
    groups: Sequence[tuple[Group, Sequence[str]]],
    output: str | Path,
    config: ScanConfig | None = None,
    *,
    template: Template | None = None,
    told: Mapping[str, Any] | None = None,
    callback: Callable[[ScanProgress], None] | None = None,
) -> Path:
    """Keep the strongest hits of features over a corpus, with histograms of all activations.

    Args:
        lm: the model; on a mesh, windows are shared by the axis `data`. Of several processes of one job each reads the
            whole corpus, and the first one alone has the folder.
        documents: of the corpus, in the same order whenever the scan goes on.
        groups: features and their strings, see `neurons_of`, `latents_of`, `others_of`.
        output: the scan's folder; one of the same scan is gone on with.
        config: how.
        template: the frozen text before each window; by default the BOS that the tokenizer adds.
        told: what else a scan that is gone on with must agree in, as JSON holds it, such as the corpus's name.
        callback: is told of progress when hits are saved.

    Returns:
        The folder, which `load_scan` reads.

    Raises:
        EpoError: settings that do not fit the model or the folder, another corpus than before, activations that are
            not finite, processes that read different corpora, or nothing to scan.
    """
    config = config or ScanConfig()
    folder = Path(output)
    prefix = frozen_tokens(lm, template or Template()).prefix
    _check(lm, config, len(prefix))
    settings = {**_settings(lm, groups, config, prefix), **(told or {})}
    processes.on_writer(lambda: files.begin(folder, settings, [names for _, names in groups]), "begin")
    with contextlib.ExitStack() as held:
        processes.on_writer(lambda: held.enter_context(files.locked(folder)), "lock")
        _go_on(lm, documents, groups, prefix, config, folder, callback)
    return folder


def _go_on(
    lm: LanguageModel,
    documents: Iterable[Document],
    groups: Sequence[tuple[Group, Sequence[str]]],
    prefix: np.ndarray,
    config: ScanConfig,
    folder: Path,
    callback: Callable[[ScanProgress], None] | None,
) -> None:
    before = processes.shared(lambda: files.load(folder), "scan")
    hits = before[0] if before else [_host(no_hits((group.parts, group.width), config.keep)) for group, _ in groups]
    nothing = {"windows": 0, "tokens": 0, "positions": 0, "seconds": 0.0, "done": False}
    counts: dict[str, Any] = before[1] if before else nothing
    if counts["done"]:
        return
    windows = windows_of(documents, lm.tokenizer, config.context, config.length, lm.config.vocab_size)
    writer: files.WindowWriter | None = None
    if processes.is_writer():
        _pass_over(files.WindowReader(folder, counts["windows"]) if before else [], windows, folder)
        writer = files.WindowWriter(folder, counts["windows"])
    else:
        windows = itertools.islice(windows, counts["windows"], None)
    try:
        scanning = _Scanning(lm, [group for group, _ in groups], prefix, config, folder, writer, callback)
        scanning.run(windows, hits, counts)
    finally:
        if writer is not None:
            writer.close()


class _Scanning:
    """One part of a scan, from a saved state on."""

    def __init__(
        self,
        lm: LanguageModel,
        groups: Sequence[Group],
        prefix: np.ndarray,
        config: ScanConfig,
        folder: Path,
        writer: files.WindowWriter | None,
        callback: Callable[[ScanProgress], None] | None,
    ) -> None:
        self._lm, self._config, self._folder, self._writer = lm, config, folder, writer
        self._callback = callback
        self._devices = 1 if lm.mesh is None else lm.mesh.shape[DATA]
        self._groups, self._prefix = on_devices(lm.mesh, (list(groups), prefix))

    def run(self, windows: Iterable[Window], saved: list[Hits], counts: dict[str, Any]) -> None:
        config, size = self._config, self._devices * self._config.batch
        hits, counts = self._spread(saved), dict(counts)
        began = last = time.monotonic()
        seconds, at_last = counts["seconds"], counts["tokens"]

        def save(done: bool) -> None:
            nonlocal hits, saved, last, at_last
            saved = [merged(group) for group in fetched(hits)]
            if any(np.isnan(group.activation).any() for group in saved):
                raise EpoError(f"{self._lm.source}: some activations are not finite; a larger --dtype may help")
            now = time.monotonic()
            counts.update(seconds=seconds + now - began, done=done)
            if self._writer is not None:
                self._writer.settle()
                files.save(self._folder, saved, counts)
            if self._callback is not None:
                rate = (counts["tokens"] - at_last) / max(now - last, 1e-9)
                self._callback(ScanProgress(counts["tokens"], counts["positions"], counts["seconds"], rate, done))
            last, at_last = now, counts["tokens"]

        for batch in _alike(batches_of(windows, size)):
            if config.tokens is not None and counts["tokens"] >= config.tokens:
                break
            hits = self._step(hits, batch, counts["windows"])
            if self._writer is not None:
                self._writer.add(batch)
            counts["windows"] += len(batch)
            counts["positions"] += sum(len(window.ids) - config.length + 1 for window in batch)
            counts["tokens"] += sum(len(window.ids) - (config.length - 1 if window.start else 0) for window in batch)
            # The device is never more than a step behind, so that time is told truly.
            jax.block_until_ready(hits)
            if processes.agreed(time.monotonic() - last >= config.save_every, "save"):
                save(done=False)
        if counts["windows"] == 0:
            raise EpoError(f"--corpus: no document has the {config.length} tokens that a dream has; give longer ones")
        save(done=True)

    def _step(self, hits: list[Hits], batch: list[Window], number: int) -> list[Hits]:
        each = self._config.batch
        ids, lengths = padded(batch, self._devices * each, self._config.context)
        first = number + each * np.arange(self._devices, dtype=np.int32)
        shape = (self._devices, each)
        arrays = (ids.reshape(*shape, -1), lengths.reshape(shape), first.astype(np.int32))
        lm = self._lm
        there = on_devices(lm.mesh, arrays, PartitionSpec(DATA))
        return scan_windows(lm.graphdef, lm.params, self._groups, self._prefix, hits, *there, self._config.length)

    def _spread(self, hits: list[Hits]) -> list[Hits]:
        """The hits so far on the first device, none on the others."""

        def spread(leaf: np.ndarray, empty: np.ndarray) -> np.ndarray:
            whole = np.broadcast_to(empty, (self._devices, *leaf.shape)).copy()
            whole[0] = leaf
            return whole

        nothing = [_host(no_hits(group.activation.shape[:-1], self._config.keep)) for group in hits]
        whole = [jax.tree.map(spread, group, none) for group, none in zip(hits, nothing, strict=True)]
        return on_devices(self._lm.mesh, whole, PartitionSpec(DATA))


def _alike(batches: Iterable[list[Window]]) -> Iterator[list[Window]]:
    """The batches, which must be the same in all processes: each puts its own windows on its devices."""
    for batch in itertools.chain(batches, [None]):
        checksum = None if batch is None else zlib.crc32(b"".join(window.ids.tobytes() for window in batch))
        if len(set(processes.gathered(checksum, "corpus"))) > 1:
            raise EpoError("--corpus: the processes read different texts; give all of them the same files")
        if batch is not None:
            yield batch


def _pass_over(before: Iterable[Window], windows: Iterator[Window], folder: Path) -> None:
    """Leave out the windows that were scanned, and see that they are the same."""
    for number, old in enumerate(before):
        new = next(windows, None)
        if (
            new is None
            or (new.document, new.start) != (old.document, old.start)
            or not np.array_equal(new.ids, old.ids)
        ):
            raise EpoError(f"--output={folder}: holds a scan of another corpus, which differs in window {number}")


def _check(lm: LanguageModel, config: ScanConfig, before: int) -> None:
    for name in ("length", "keep", "batch"):
        if getattr(config, name) < 1:
            raise EpoError(f"--{name}={getattr(config, name)}: must be at least 1")
    if config.length < 2 and not before:
        raise EpoError("--length=1: a single token has no predecessor to score it by; give at least 2, or --bos=always")
    if config.context < config.length:
        raise EpoError(f"--context={config.context}: is less than --length={config.length}; give at least as much")
    if before + config.context > lm.config.max_positions:
        raise EpoError(
            f"--context={config.context}: the model takes {lm.config.max_positions - before} tokens; give no more"
        )


def _settings(
    lm: LanguageModel, groups: Sequence[tuple[Group, Sequence[str]]], config: ScanConfig, prefix: np.ndarray
) -> dict[str, Any]:
    sizes = {name: getattr(config, name) for name in ("length", "context", "keep", "tokens")}
    model = {"model": lm.source, "commit": lm.commit, "dtype": lm.config.dtype}
    # A name is neither a model nor an autoencoder.
    prints = {"weights": weights_fingerprint(lm), "features": numbers_fingerprint([group for group, _ in groups])}
    return {**model, **prints, **sizes, "prefix": prefix.tolist()}


def _host(hits: Hits) -> Hits:
    return jax.tree.map(np.asarray, hits)
