"""What a dream found, and its folder on disk."""

from __future__ import annotations

import dataclasses
import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epo_jax.attribution import Attribution
from epo_jax.config import EPOConfig
from epo_jax.constraints import Constraints
from epo_jax.dream.attributions import frontier_drops, load_attribution, save_attributions
from epo_jax.dream.frontier import Frontier, merged, optional_columns
from epo_jax.dream.given import flags_of
from epo_jax.dream.history import History
from epo_jax.dream.starts import RANDOM
from epo_jax.errors import EpoError
from epo_jax.report import ReportData, write_frontier_png, write_report
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import NONE

CONFIG, HISTORY, FRONTIER_CSV, FRONTIER_JSON = "config.json", "history.npz", "frontier.csv", "frontier.json"
PICTURE, REPORT = "frontier.png", "report.html"
# What a run that has not ended keeps in its folder; under the other names it counts for nothing, nor does a lock.
CHECKPOINTS, BEGUN, DONE, LOCK = "checkpoints", "checkpoints.begun", "checkpoints.done", "run.lock"
# Among a run's versions: what a model of the hub was when it was loaded, since branches move on.
MODEL_COMMIT = "model commit"


@dataclasses.dataclass(frozen=True)
class Run:
    """All that reruns a dream, and how it ended.

    Attributes:
        model: name, file, folder or hub id of the model.
        feature: the feature string.
        search: the search's settings.
        seed: of all randomness.
        dtype: of the model's parameters.
        prefix: frozen text before the prompt.
        suffix: frozen text after it.
        bos: the template's BOS rule.
        init_text: text of the initial prompts; None for others.
        versions: of Python, packages and device.
        seconds: from the first iteration's start to the end, for all dreams that were advanced together.
        stopped: why the run ended before its last iteration; empty if it did not.
        read: where the feature is read: "last", "max" or a position.
        micro_batch: rows of tokens that evaluation runs as one block; None in runs of version 0.1.
        mesh: the devices that shared the work, such as "data:8"; empty for one.
        revision: of a model of the hub, the branch, tag or commit that was asked for; the commit that it stood for is
            in `versions`.
        scale: what objectives took the feature against: "none", "random" or a number.
        scale_offset: the value that counts as 0 in a scaled one.
        scale_unit: what scaled values are multiples of.
        fluency_model: the model whose cross-entropy counts; None for the first one.
        constraints: what prompts may be.
        init: what the initial prompts are if neither `init_text` nor `init_file` says it: "random" or "model".
        init_file: file or run folder of the initial prompts.
        fingerprints: of the models' weights and the feature's numbers, which tell apart what has one name; empty where
            no run folder was asked for.
    """

    model: str
    feature: str
    search: EPOConfig
    seed: int
    dtype: str
    prefix: str
    suffix: str
    bos: str
    init_text: str | None
    versions: Mapping[str, str]
    seconds: float = 0.0
    stopped: str = ""
    read: str = LAST
    micro_batch: int | None = None
    mesh: str = ""
    revision: str | None = None
    scale: str = NONE
    scale_offset: float = 0.0
    scale_unit: float = 1.0
    fluency_model: str | None = None
    constraints: Constraints = Constraints()  # noqa: RUF009 (frozen)
    init: str = RANDOM
    init_file: str | None = None
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command line that runs the dream again."""
        flags: dict[str, Any] = {"model": self.model}
        if self.revision is not None:
            flags["revision"] = self.revision
        flags["feature"] = self.feature
        flags |= {name: value for name, value in self.search.to_json().items() if name != "search"}
        flags |= {"prefix": self.prefix, "suffix": self.suffix, "bos": self.bos, "seed": self.seed, "dtype": self.dtype}
        if self.init_text is not None:
            flags["init_text"] = self.init_text
        if self.init != RANDOM:
            flags["init"] = self.init
        if self.init_file is not None:
            flags["init_file"] = self.init_file
        if self.read != LAST:
            flags["read"] = self.read
        if self.scale != NONE:
            flags["scale"] = self.scale
        if self.fluency_model is not None:
            flags["fluency_model"] = self.fluency_model
        if self.micro_batch is not None:
            flags["micro_batch"] = self.micro_batch
        flags["mesh"] = self.mesh
        listed = [(name, value) for name, value in flags.items() if value != ""] + flags_of(self.constraints)
        shown = (shlex.quote(f"--{name}={value}") for name, value in listed)
        return f"python -m epo_jax.dream {' '.join(shown)}"

    def to_json(self) -> dict[str, Any]:
        """The fields and the command as JSON values."""
        return {**dataclasses.asdict(self), "constraints": self.constraints.to_json(), "command": self.command}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Run:
        """The run that `to_json` gave."""
        fields = {name: value for name, value in values.items() if name != "command"}
        search = EPOConfig.from_json(fields["search"])
        return cls(**{**fields, "search": search, "constraints": Constraints.from_json(fields.get("constraints", {}))})


@dataclasses.dataclass(frozen=True)
class Result:
    """A dream's outcome.

    Attributes:
        frontier: prompts that are best for some fluency penalty.
        history: every prompt that was scored.
        run: what was asked for, and how it ended.
        attribution: which tokens of the frontier's prompts matter, or of some of them; None where it was not asked for.
    """

    frontier: Frontier
    history: History
    run: Run
    attribution: Attribution | None = None

    def save(self, folder: str | Path, overwrite: bool = False, report: bool = True) -> Path:
        """Write the run folder: config.json, history.npz, frontier.csv, frontier.json, frontier.png, report.html.

        With attributions also attributions.json and attributions.png. Without `report` neither pictures nor pages.

        Raises:
            EpoError: the folder cannot be written, or is not empty and not to be overwritten.
        """
        path = prepare_folder(folder, overwrite)
        try:
            for name in (CONFIG, HISTORY, FRONTIER_CSV, FRONTIER_JSON, PICTURE, REPORT):
                # Of an earlier run nothing may stay beside this one's files.
                (path / name).unlink(missing_ok=True)
            (path / CONFIG).write_text(json.dumps(self.run.to_json(), indent=2) + "\n", encoding="utf-8")
            np.savez_compressed(path / HISTORY, **vars(self.history))
            table = self.frontier.to_pandas()
            table.to_csv(path / FRONTIER_CSV, index=False)
            table.to_json(path / FRONTIER_JSON, orient="records", indent=2, force_ascii=False)
            save_attributions(path, self)
            if report:
                write_frontier_png(self.report_data(), path / PICTURE)
                write_report(self.report_data(), path / REPORT)
        except OSError as error:
            raise EpoError(f"--output={folder}: cannot be written ({error})") from error
        return path

    def report_data(self) -> ReportData:
        """What pictures and report show."""
        run = self.run
        settings = {**run.search.to_json(), "seed": run.seed, "dtype": run.dtype, "bos": run.bos}
        if run.init_text is not None:
            settings["init_text"] = run.init_text
        if run.init != RANDOM:
            settings["init"] = run.init
        if run.init_file is not None:
            settings["init_file"] = run.init_file
        if run.read != LAST:
            settings["read"] = run.read
        if run.scale != NONE:
            settings["scale"] = f"{run.scale} ({run.scale_offset:.4g} counts as 0, {run.scale_unit:.4g} as 1)"
        for name, value in flags_of(run.constraints):
            settings[name] = f"{settings[name]}, {value}" if name in settings else value
        if run.fluency_model is not None:
            settings["fluency_model"] = run.fluency_model
        return ReportData(
            feature=run.feature,
            model=run.model if run.revision is None else f"{run.model} at {run.revision}",
            frontier_feature=self.frontier.feature,
            frontier_cross_entropy=self.frontier.cross_entropy,
            frontier_tokens=self.frontier.tokens,
            frontier_iteration=self.frontier.iteration,
            history_feature=self.history.feature,
            history_cross_entropy=self.history.cross_entropy,
            history_iteration=self.history.iteration,
            settings=settings,
            versions=run.versions,
            command=run.command,
            prefix=run.prefix,
            suffix=run.suffix,
            stopped=run.stopped,
            columns=self.frontier.more,
            attributions=frontier_drops(self.frontier, self.attribution),
        )


def check_folder(folder: str | Path, overwrite: bool = False) -> Path:
    """Check, without making anything, that a run folder may be written.

    Raises:
        EpoError: it is a file, or it is not empty and not to be overwritten.
    """
    path = Path(folder).expanduser()
    try:
        if path.exists() and not path.is_dir():
            raise EpoError(f"--output={folder}: is a file; give a folder")
        if path.is_dir() and not overwrite and any(one.name not in (BEGUN, DONE, LOCK) for one in path.iterdir()):
            raise EpoError(
                f"--output={folder}: the folder exists and is not empty; give another, --resume to go on with the run "
                "that it holds, or --overwrite"
            )
    except OSError as error:
        raise EpoError(f"--output={folder}: cannot be read ({error})") from error
    return path


def prepare_folder(folder: str | Path, overwrite: bool = False) -> Path:
    """Make the run folder, and prove that it can be written; what it holds stays.

    Raises:
        EpoError: it is not empty and not to be overwritten, or it cannot be made or written.
    """
    check_folder(folder, overwrite)
    return writable_folder(folder, "output")


def writable_folder(folder: str | Path, flag: str) -> Path:
    """Make a folder, and prove that it can be written.

    Raises:
        EpoError: it cannot be made or written; named by the flag that gave it.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise EpoError(f"--{flag}={folder}: cannot be written ({error})") from error
    return path


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
            ids=np.asarray([row["ids"] for row in rows], np.int32).reshape(-1, length),
            text=tuple(row["text"] for row in rows),
            tokens=tuple(tuple(row["tokens"]) for row in rows),
            feature=np.asarray([row["feature"] for row in rows], np.float32),
            cross_entropy=np.asarray([row["cross_entropy"] for row in rows], np.float32),
            iteration=np.asarray([row["iteration"] for row in rows], np.int32),
            **optional_columns(rows),
        )
        attribution = load_attribution(path, frontier)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EpoError(f"{folder}: not a whole run folder ({error})") from error
    return Result(frontier, history, run, attribution)


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
