"""The sweep: batch after batch, until all are in the table, whoever did them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable as Function
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epo_jax.config import EPOConfig
from epo_jax.constraints import Constraints
from epo_jax.dream import NonFiniteError, Progress, Result, dream
from epo_jax.dream.batch import pairs
from epo_jax.dream.run_folder import EVERY, KEEP, check_keeping
from epo_jax.dream.run_lock import is_held
from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.parallel.processes import agreed, is_writer, on_writer
from epo_jax.parallel.stopping import stop_wanted
from epo_jax.scoring.template import Template, frozen_tokens
from epo_jax.sweep.at_once import dreams_at_once as at_once_by_default
from epo_jax.sweep.batches import Layout, Unusable, divided, is_about, kinds_of, run_folders
from epo_jax.sweep.claims import SECONDS_PER_BEAT, Claim, Claims
from epo_jax.sweep.folder import CLAIMS, DREAMS, check_sweep_folder, opened
from epo_jax.sweep.pages import SweepPage
from epo_jax.sweep.progress import Callback, SweepProgress, seconds_left
from epo_jax.sweep.table import TABLE, UNUSABLE, Row, failed_row, part_names, row_of, write_part

OTHERS = -1  # no batch: others have all that are left
SECONDS_PER_LOOK = 2.0  # at what other processes have done, where there is nothing to do here


@dataclasses.dataclass(frozen=True)
class Summary:
    """How a sweep stands when it ends.

    Attributes:
        folder: of the sweep; `pandas.read_parquet(folder / "results.parquet")` has its results.
        dreams: of the whole sweep.
        done: dreams that are in the results, failed ones included.
        failed: of these, how many failed.
        stopped: why it ended before all were done; empty if it did not.
    """

    folder: Path
    dreams: int
    done: int
    failed: int
    stopped: str = ""


def sweep(
    lm: LanguageModel,
    features: Sequence[str],
    config: EPOConfig | None = None,
    *,
    output: str | Path,
    seed: int | Sequence[int] = 0,
    dreams_at_once: int | None = None,
    reports: bool = True,
    callback: Callback | None = None,
    **options: Any,
) -> Summary:
    """Dream many features, some at a time, into one folder; the same call goes on where it was broken off.

    Several processes may make the same call with one folder: each takes batches that no other has. Ctrl-C ends it.

    Args:
        lm: the model.
        features: feature strings, each once, of any kinds; see `listing.listed_features` for ranges.
        config: settings of the search; by default the paper's.
        output: the sweep's folder.
        seed: each feature is dreamed with it, or with each of a list.
        dreams_at_once: dreams of one program (R); by default what a sweep that is there has, or what suits the device.
        reports: whether each dream gets its report.html and pictures.
        callback: called after each visit to the host; returning True ends the sweep, which may go on later.
        options: further keywords of `dream`.

    Returns:
        How the sweep stands.

    Raises:
        EpoError: input that no feature can be dreamed with, a folder of another sweep, or one that cannot be written.
    """
    config = config or EPOConfig()
    if dreams_at_once is not None and (isinstance(dreams_at_once, bool) or dreams_at_once < 1):
        raise EpoError(f"--dreams_at_once={dreams_at_once}: must be a whole number of at least 1")
    keeping = options.get("checkpoint_every", EVERY), options.get("keep_checkpoints", KEEP)
    check_keeping(output, False, True, *keeping)
    seeds = [number for _, number in pairs("", [seed] if isinstance(seed, int) else seed)]
    path = Path(on_writer(lambda: str(check_sweep_folder(output))))
    tokens = whole_tokens(lm, config, options.get("template"))

    def divide() -> Layout:
        mesh = options.get("mesh")
        devices = 1 if mesh is None else mesh.shape["data"]
        together = dreams_at_once or at_once_by_default(lm, config, tokens, devices)
        layout = divided(features, seeds, together, kinds_of(lm))
        if not layout.batches:
            raise EpoError(
                f"none of the {len(features)} features can be dreamed; the first: {layout.unusable[0].error}"
            )
        return layout

    settings = {**_settings(lm, config, options), "seed": seeds, "dreams_at_once": dreams_at_once}
    # Of several processes of one job only the writer looks at files.
    kept = on_writer(lambda: opened(path, settings, features, divide).to_json())
    work = _Work(path, Layout.from_json(kept), lm.source)
    on_writer(work.record_unusable)
    return work.run(lm, config, options | {"report": reports}, callback)


def whole_tokens(lm: LanguageModel, config: EPOConfig, template: Template | None) -> int:
    """Tokens of a whole sequence, prefix and suffix included."""
    frozen = frozen_tokens(lm, template or Template())
    return len(frozen.prefix) + config.length + len(frozen.suffix)


class _Work:
    """The batches of a sweep, and which of them are done.

    Of several processes of one job the writer alone has claims and reads the table; all dream what it says.
    """

    def __init__(self, path: Path, layout: Layout, title: str):
        self.path, self.layout = path, layout
        self._page = SweepPage(path, title, layout.dreams)
        self._names = [f"{number:06d}" for number in range(len(layout.batches))]
        self._claims = Claims(path / CLAIMS) if is_writer() else None
        self._claim: Claim | None = None
        # Batches of a process that stood still for so long that its claim went over, and that has them all the same:
        # when to look at them again.
        self._held: dict[int, float] = {}

    def record_unusable(self) -> None:
        """Put the features that no batch holds into the table."""
        rows = [failed_row(one) for one in self.layout.unusable]
        if rows and UNUSABLE not in part_names(self.path / TABLE):
            write_part(self.path / TABLE, UNUSABLE, rows)

    def run(self, lm: LanguageModel, config: EPOConfig, options: dict[str, Any], callback: Callback | None) -> Summary:
        """Do batch after batch until there is none left, or somebody wants it to end."""
        stopped = ""
        on_writer(self._page.read)
        # How much was done when the first iterations were, which is after programs were compiled.
        first: list[tuple[float, float]] = []

        def tell(share: float, together: int) -> bool:
            dreams, now = self._page.done + share * together, time.monotonic()
            if share and not first:
                first.append((dreams, now))
            before, began = first[0] if first else (dreams, now)
            left = seconds_left(self.layout.dreams, dreams, before, now - began)
            told = SweepProgress(self._page.done, self._page.failed, self.layout.dreams, share, together, left)
            return bool(callback is not None and callback(told))

        try:
            while not stopped:
                number = on_writer(self._next)
                if number is None:
                    break
                if number == OTHERS:
                    time.sleep(SECONDS_PER_LOOK)
                else:
                    with self._claimed():
                        rows, stopped = self._dreamed(lm, number, config, options, tell)
                        if agreed(self._is_lost()):
                            # Another took it over while this process seemed to have ended, and does all of it.
                            stopped = ""
                        elif not stopped:
                            on_writer(functools.partial(self._keep, number, rows))
                on_writer(self._page.read)
                if stop_wanted(tell(0.0, 0)) and not stopped:
                    stopped = "stopped by the callback"
        except KeyboardInterrupt:
            stopped = "interrupted"
        on_writer(self._page.read)
        on_writer(self._page.write)
        done, failed = agreed([self._page.done, self._page.failed])
        return Summary(self.path, self.layout.dreams, done, failed, stopped if done < self.layout.dreams else "")

    def _next(self) -> int | None:
        """The number of a batch, which is now claimed; OTHERS where others have all that are left; None without any."""
        assert self._claims is not None
        done = part_names(self.path / TABLE)
        open_ones = [number for number, name in enumerate(self._names) if name not in done]
        for number in open_ones:
            name = self._names[number]
            if time.monotonic() < self._held.get(number, 0.0):
                continue
            claim = self._claims.take(name)
            if claim is None:
                continue
            if name in part_names(self.path / TABLE):
                # Done between the look at the table and the claim.
                self._claims.clear(name)
                continue
            if any(map(is_held, (self.path / DREAMS).glob(f"{name}*"))):
                self._claims.release(claim)
                self._held[number] = time.monotonic() + SECONDS_PER_BEAT
                continue
            self._claim = claim
            return number
        return OTHERS if open_ones else None

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """Keep the claim alive meanwhile; what was not done is given back."""
        if self._claim is None or self._claims is None:
            yield
            return
        with self._claim as claim:
            try:
                yield
            finally:
                if claim.path.exists():
                    self._claims.release(claim)
                self._claim = None

    def _is_lost(self) -> bool:
        return self._claim is not None and self._claim.lost

    def _keep(self, number: int, rows: Sequence[Row]) -> None:
        """Put a batch into the table."""
        assert self._claims is not None
        write_part(self.path / TABLE, self._names[number], rows)
        self._claims.clear(self._names[number])
        self._page.write_if_due()

    def _dreamed(
        self,
        lm: LanguageModel,
        number: int,
        config: EPOConfig,
        options: dict[str, Any],
        tell: Function[[float, int], bool],
    ) -> tuple[list[Row], str]:
        """The rows of a batch, and why it ended early ("" if it did not)."""
        items, name = list(self.layout.batches[number]), self._names[number]
        rows: list[Row] = []

        def told(progress: Progress) -> bool:
            return tell(progress.iteration / progress.iterations, len(items)) or self._is_lost()

        results: list[Result] = []
        while items and not results:
            try:
                results = dream(
                    lm,
                    [item.feature for item in items],
                    config,
                    seed=[item.seed for item in items],
                    output=self.path / DREAMS / name,
                    # What a broken process left of the batch is gone on from.
                    resume=True,
                    callback=told,
                    **options,
                )
            except NonFiniteError as error:
                results = error.results
            except EpoError as error:
                broken = [item for item in items if is_about(str(error), item.feature)]
                if not broken:
                    raise
                rows += [failed_row(Unusable(item, str(error)), number) for item in broken]
                items = [item for item in items if item not in broken]
                # Fewer dreams are another run, which has its own folder.
                name = f"{self._names[number]}-{len(items)}"
        early = ""
        for item, result, folder in zip(items, results, run_folders(items), strict=True):
            place = f"{DREAMS}/{name}/{folder}"
            rows.append(row_of(item, result, lm.tokenizer, batch=number, together=len(items), folder=place))
            history = result.history
            if np.isfinite(history.feature).all() and np.isfinite(history.cross_entropy).all():
                early = early or result.run.stopped
        return rows, early


def _settings(lm: LanguageModel, config: EPOConfig, options: dict[str, Any]) -> dict[str, Any]:
    """What a sweep's results depend on, as JSON values; devices and blocks of rows change nothing."""
    template = options.get("template") or Template()
    fluency_model = options.get("fluency_model")
    told: dict[str, Any] = {
        "model": lm.source,
        "revision": lm.revision,
        "commit": lm.commit,
        "dtype": lm.config.dtype,
        **config.to_json(),
        **dataclasses.asdict(template),
        "constraints": (options.get("constraints") or Constraints()).to_json(),
        "fluency_model": None if fluency_model is None else fluency_model.source,
    }
    if config.options is not None:
        # What the settings leave open may be another in another version.
        told["options"] = dataclasses.asdict(config.options)
    for name in ("init", "init_text", "init_file", "read", "scale"):
        told[name] = str(options[name]) if options.get(name) is not None else None
    return told
