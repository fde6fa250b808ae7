"""What a dream found, and its folder on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from epo_jax.attribution import Attribution
from epo_jax.dream import exports, shown
from epo_jax.dream.attributions import load_attribution, save_attributions, save_attributions_picture
from epo_jax.dream.dataset import load_examples, save_examples
from epo_jax.dream.folders import (
    CONFIG,
    FRONTIER_CSV,
    FRONTIER_JSON,
    HISTORY,
    PICTURE,
    REPORT,
    TOKENS,
    prepare_folder,
)
from epo_jax.dream.frontier import Frontier, merged, optional_columns
from epo_jax.dream.history import History
from epo_jax.dream.run import MODEL_COMMIT, Run
from epo_jax.epo.lengths import padded
from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.report import ReportData, write_frontier_png, write_report
from epo_jax.report.examples_data import Examples
from epo_jax.report.fragment import render_fragment
from epo_jax.whole_files import write_whole


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """A dream's outcome; in a notebook it shows itself.

    Attributes:
        frontier: prompts that are best for some fluency penalty.
        history: every prompt that was scored.
        run: what was asked for, and how it ended.
        attribution: which tokens of the frontier's prompts matter, or of some of them; None where it was not asked for.
        token_texts: the text of every token of the history, by its id; empty in folders of versions before 0.6.
        examples: what a corpus has of the feature; None where no scan was given, or it has not the feature.
    """

    frontier: Frontier
    history: History
    run: Run
    attribution: Attribution | None = None
    token_texts: Mapping[int, str] = dataclasses.field(default_factory=dict)
    examples: Examples | None = None

    def __repr__(self) -> str:
        return shown.line(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return render_fragment(self.report_data())

    def to_pandas(self, history: bool = False) -> pd.DataFrame:
        """A row per prompt of the frontier, as `Frontier.to_pandas`, or, with `history`, per scored prompt.

        The history's columns are iteration, text, feature, cross_entropy (nats/token), on_frontier and ids. Texts are
        those of the tokens one after the other, empty where `token_texts` lacks them.
        """
        return exports.history_table(self) if history else self.frontier.to_pandas()

    def to_parquet(self, path: str | Path) -> Path:
        """Write the whole history as one Parquet file that speaks for itself.

        Its columns are those of `to_pandas(history=True)`, a prompt a row; the schema's metadata has the run's
        settings, versions and command as JSON under "epo_jax.run", and the frontier's prompts under
        "epo_jax.frontier". `pandas.read_parquet` reads it.

        Raises:
            EpoError: it cannot be written.
        """
        return exports.write_parquet(self, Path(path).expanduser())

    def to_neuronpedia(
        self, lm: LanguageModel, *, layer: str | None = None, index: str | None = None
    ) -> dict[str, Any]:
        """The frontier as JSON values in the form that Neuronpedia's API gives a feature.

        Keys are modelId, layer, index and activations, strongest first. Each of these has tokens, values (of the
        feature, read at each token; of an autoencoder's latent its activation), maxValue, maxValueTokenIndex and
        minValue. Tokens are the prompt's and those of the frozen text behind it.

        Args:
            lm: the model that was dreamed.
            layer: Neuronpedia's name for the feature's source; by default what its string says of it.
            index: likewise its number there.

        Raises:
            EpoError: another model, or a feature that has no value at each token.
        """
        return exports.neuronpedia(self, lm, layer, index)

    def save(self, folder: str | Path, overwrite: bool = False, report: bool = True) -> Path:
        """Write the run folder.

        Files: config.json, history.npz, tokens.json, frontier.csv, frontier.json, frontier.png, report.html; with
        attributions also attributions.json and attributions.png, with dataset examples examples.json. Without `report`
        neither pictures nor pages.

        Raises:
            EpoError: the folder cannot be written, or is not empty and not to be overwritten.
        """
        path = prepare_folder(folder, overwrite)
        try:
            for name in (CONFIG, HISTORY, FRONTIER_CSV, FRONTIER_JSON, PICTURE, REPORT, TOKENS):
                # Of an earlier run nothing may stay beside this one's files.
                (path / name).unlink(missing_ok=True)
            (path / CONFIG).write_text(json.dumps(self.run.to_json(), indent=2) + "\n", encoding="utf-8")
            np.savez_compressed(path / HISTORY, **vars(self.history))
            save_attributions(path, self)
            self._write_told(path)
            if report:
                self._write_report(path)
        except OSError as error:
            raise EpoError(f"--output={folder}: cannot be written ({error})") from error
        return path

    def save_report(self, folder: str | Path) -> None:
        """Write what the run folder tells of the run anew: pictures, page, frontier, texts and dataset examples.

        Raises:
            EpoError: it cannot be written.
        """
        path = Path(folder).expanduser()
        try:
            self._write_told(path)
            self._write_report(path)
        except OSError as error:
            raise EpoError(f"{folder}: cannot be written ({error})") from error

    def _write_told(self, path: Path) -> None:
        if self.token_texts:
            texts = json.dumps({str(index): text for index, text in self.token_texts.items()})
            write_whole(path / TOKENS, (texts + "\n").encode())
        table = self.frontier.to_pandas()
        write_whole(path / FRONTIER_CSV, table.to_csv(index=False).encode())
        rows = table.to_json(orient="records", indent=2, force_ascii=False)
        write_whole(path / FRONTIER_JSON, rows.encode())
        save_examples(path, self.examples)

    def _write_report(self, path: Path) -> None:
        write_frontier_png(self.report_data(), path / PICTURE)
        save_attributions_picture(path, self)
        write_report(self.report_data(), path / REPORT)

    def report_data(self) -> ReportData:
        """What pictures and report show."""
        return shown.report_data(self)


def load_result(folder: str | Path) -> Result:
    """Read a run folder back.

    Raises:
        EpoError: a file that is missing or damaged.
    """
    path = Path(folder).expanduser()
    try:
        run = Run.from_json(json.loads((path / CONFIG).read_text(encoding="utf-8")))
        with np.load(path / HISTORY, allow_pickle=False) as arrays:
            history = History(**{name: arrays[name] for name in arrays.files})
        rows = json.loads((path / FRONTIER_JSON).read_text(encoding="utf-8"))
        length = history.ids.shape[1]
        frontier = Frontier(
            ids=padded([row["ids"] for row in rows], length),
            text=tuple(row["text"] for row in rows),
            tokens=tuple(tuple(row["tokens"]) for row in rows),
            feature=np.asarray([row["feature"] for row in rows], np.float32),
            cross_entropy=np.asarray([row["cross_entropy"] for row in rows], np.float32),
            iteration=np.asarray([row["iteration"] for row in rows], np.int32),
            **optional_columns(rows),
        )
        attribution = load_attribution(path, frontier)
        texts: Mapping[str, str] = {}
        if (path / TOKENS).exists():
            texts = json.loads((path / TOKENS).read_text(encoding="utf-8"))
        token_texts = {int(index): str(text) for index, text in texts.items()}
        examples = load_examples(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EpoError(f"{folder}: not a whole run folder ({error})") from error
    return Result(frontier, history, run, attribution, token_texts, examples)


def merge_frontiers(results: Sequence[Result]) -> Frontier:
    """The frontier over all prompts that several runs of one feature of one model scored.

    Raises:
        EpoError: no results, or results of different models or commits, features, readings, templates, lengths or
            fluency models.
    """
    told = {
        (
            *(run.model, run.versions.get(MODEL_COMMIT)),
            *(run.feature, run.read, run.prefix, run.suffix, run.bos, run.search.length, run.fluency_model),
        )
        for run in (result.run for result in results)
    }
    if len(told) != 1:
        raise EpoError(
            f"merge_frontiers: needs results of one model and commit, feature, reading, template, length and fluency "
            f"model, and got {len(told)}"
        )
    return merged([result.frontier for result in results])
