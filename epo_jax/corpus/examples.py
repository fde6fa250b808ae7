"""A scan that was made, read feature by feature: what the corpus has of each at most, and how often it has how much."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int32, Int64

from epo_jax.corpus import files
from epo_jax.corpus.hits import percentiles
from epo_jax.errors import EpoError, one_line
from epo_jax.features import parse_feature
from epo_jax.models import LanguageModel
from epo_jax.scoring.neuronpedia import named_by, records
from epo_jax.scoring.template import Template, frozen_tokens

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)


@dataclasses.dataclass(frozen=True)
class DatasetExamples:
    """Max-activating dataset examples of a feature, strongest in context first.

    Attributes:
        feature: its string.
        activation: float32[K], in the corpus, with all of the window before it.
        document: where each stands.
        place: int64[K], which token of its document each is.
        context: int32[n] each, tokens of the window.
        position: int32[K], the token in it that is read.
        ids: int32[K, T], the isolated tokens.
        isolated_activation: float32[K], of these alone, as a dream is scored; None where they were not.
        isolated_cross_entropy: float32[K], nats/token; likewise.
        percentiles: of all activations in the corpus, by percentage; within an eighth of an octave.
        histogram: int64[bins], see `hits.bin_edges`.
    """

    feature: str
    activation: Float32[np.ndarray, " K"]
    document: list[str]
    place: Int64[np.ndarray, " K"]
    context: list[Int32[np.ndarray, " _"]]
    position: Int32[np.ndarray, " K"]
    ids: Int32[np.ndarray, "K T"]
    isolated_activation: Float32[np.ndarray, " K"] | None
    isolated_cross_entropy: Float32[np.ndarray, " K"] | None
    percentiles: dict[float, float]
    histogram: Int64[np.ndarray, " bins"]

    @property
    def maximum(self) -> float:
        """The largest activation in the corpus; NaN where it has no position."""
        return float(self.activation[0]) if len(self.activation) else float("nan")

    def to_pandas(self, tokenizer: object = None) -> pd.DataFrame:
        """A row for each example; texts where the model's tokenizer is given."""
        table = pd.DataFrame({"activation": self.activation, "document": self.document, "place": self.place})
        if self.isolated_activation is not None:
            table["isolated_activation"] = self.isolated_activation
            table["isolated_cross_entropy"] = self.isolated_cross_entropy
        table["ids"] = list(self.ids)
        if tokenizer is not None:
            table["text"] = [tokenizer.decode(ids) for ids in self.ids.tolist()]  # type: ignore[attr-defined]
        return table

    def to_neuronpedia(
        self,
        lm: LanguageModel,
        template: Template | None = None,
        *,
        layer: str | None = None,
        index: str | None = None,
    ) -> dict[str, Any]:
        """The examples as JSON values in the form of Neuronpedia's API: each context with a value for each token.

        Args:
            lm: the model that was scanned.
            template: the frozen text before each window, as for the scan; by default the BOS that the tokenizer adds.
            layer: Neuronpedia's name for the feature's source; by default what its string says of it.
            index: likewise its number there.

        Raises:
            EpoError: a feature that the model does not have, or that has no value at each token.
        """
        prefix = frozen_tokens(lm, template or Template()).prefix
        activations = records(lm, parse_feature(self.feature, lm), self.context, prefix)
        return {**named_by(self.feature, lm.source, layer, index), "activations": activations}


class Scan:
    """A scan's folder, opened for reading.

    Attributes:
        folder: where it is.
        settings: model, corpus, sizes.
        features: all feature strings.
        tokens: of the corpus that were scanned.
        positions: at which each feature was read.
        seconds: that it took.
        done: whether it came to its end.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open it; see `load_scan`."""
        self.folder = Path(folder)
        try:
            self.settings = files.settings_of(self.folder)
            names = files.names_of(self.folder)
        except (OSError, ValueError) as error:
            raise EpoError(f"--scan={folder}: holds no scan ({one_line(error)})") from error
        found = files.load(self.folder)
        if found is None:
            raise EpoError(f"--scan={folder}: holds a scan of which nothing was saved yet")
        self._hits, told = found
        self.tokens, self.positions = int(told["tokens"]), int(told["positions"])
        self.seconds, self.done = float(told["seconds"]), bool(told["done"])
        self._windows = int(told["windows"])
        self.features = [name for group in names for name in group]
        self._row = {name: row for row, name in enumerate(self.features)}

    @property
    def corpus(self) -> str:
        """What was scanned, by the names that it was given by; the folder's own name where none were told."""
        given = self.settings.get("corpus") or [self.folder.name]
        return ", ".join(Path(one).name or one for one in given)

    def check(self, model: str, length: int, name: str) -> None:
        """Check that dreams can be held against it.

        Args:
            model: that was dreamed, by the name that it was loaded by.
            length: tokens of its dreams, T.
            name: of the dreams, for errors: a flag and what it gives.

        Raises:
            EpoError: another model or length, or a scan that has not come to its end.
        """
        if not self.done:
            raise EpoError(f"--scan={self.folder}: has not come to its end; the same command of scan_corpus.py goes on")
        own = self.settings["model"], self.settings["length"]
        if (model, length) != own:
            raise EpoError(f"{name}: is of {model} with {length} tokens, and the scan of {own[0]} with {own[1]}")

    @functools.cached_property
    def _reader(self) -> files.WindowReader:
        return files.WindowReader(self.folder, self._windows)

    @functools.cached_property
    def _flat(self) -> tuple[np.ndarray, ...]:
        names = ("activation", "window", "position", "histogram")
        arrays = ([getattr(group, name) for group in self._hits] for name in names)
        return tuple(np.concatenate([a.reshape(-1, a.shape[-1]) for a in each]) for each in arrays)

    @functools.cached_property
    def _isolated(self) -> tuple[dict[int, int], np.ndarray, np.ndarray]:
        rows, activation, cross_entropy = files.isolated_of(self.folder)
        return {int(row): place for place, row in enumerate(rows)}, activation, cross_entropy

    @property
    def windows(self) -> files.WindowReader:
        """All windows of the corpus that were scanned, by number."""
        return self._reader

    def hits(self, feature: str) -> tuple[Int32[np.ndarray, " K"], Int32[np.ndarray, " K"], Float32[np.ndarray, " K"]]:
        """Number of the window, position in it, and activation of a feature's hits, strongest first.

        Raises:
            EpoError: the scan does not have the feature.
        """
        row = self._row_of(feature)
        activation, window, position = (array[row] for array in self._flat[:3])
        there = window >= 0
        return window[there], position[there], activation[there]

    def examples(self, feature: str) -> DatasetExamples:
        """The examples of a feature.

        Raises:
            EpoError: the scan does not have it.
        """
        row = self._row_of(feature)
        window, position, activation = self.hits(feature)
        histogram, there = self._flat[3][row], self._flat[1][row] >= 0
        count = len(window)
        windows = [self._reader[number] for number in window.tolist()]
        length = self.settings["length"]
        ids = (
            np.stack([w.ids[p - length + 1 : p + 1] for w, p in zip(windows, position, strict=True)])
            if count
            else (np.zeros((0, length), np.int32))
        )
        rows, isolated, nats = self._isolated
        at = rows.get(row)
        found = percentiles(histogram[None], activation[:1] if count else np.zeros(1, np.float32), PERCENTILES)[0]
        return DatasetExamples(
            feature=feature,
            activation=activation,
            document=[w.document for w in windows],
            place=np.array([w.start + p for w, p in zip(windows, position, strict=True)], np.int64),
            context=[w.ids for w in windows],
            position=position,
            ids=ids,
            isolated_activation=None if at is None else isolated[at][there],
            isolated_cross_entropy=None if at is None else nats[at][there],
            percentiles=dict(zip(PERCENTILES, found.tolist(), strict=True)),
            histogram=histogram.astype(np.int64),
        )

    def _row_of(self, feature: str) -> int:
        if feature not in self._row:
            raise EpoError(f"--feature={feature}: is none of the {len(self.features)} features of {self.folder}")
        return self._row[feature]


def load_scan(folder: str | Path) -> Scan:
    """Open a scan's folder.

    Raises:
        EpoError: no scan there, or a damaged one.
    """
    return Scan(folder)
