"""What pictures, reports and notebooks show of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from epo_jax.dream.attributions import frontier_drops
from epo_jax.dream.given import flags_of
from epo_jax.dream.progress import FLUENT_BELOW
from epo_jax.dream.starts import RANDOM
from epo_jax.report import ReportData
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import NONE

if TYPE_CHECKING:
    from epo_jax.dream.result import Result


def report_data(result: Result) -> ReportData:
    """What pictures and report show."""
    run, frontier, history = result.run, result.frontier, result.history
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
        frontier_feature=frontier.feature,
        frontier_cross_entropy=frontier.cross_entropy,
        frontier_tokens=frontier.tokens,
        frontier_iteration=frontier.iteration,
        history_feature=history.feature,
        history_cross_entropy=history.cross_entropy,
        history_iteration=history.iteration,
        settings=settings,
        versions=run.versions,
        command=run.command,
        prefix=run.prefix,
        suffix=run.suffix,
        stopped=run.stopped,
        columns=frontier.more,
        attributions=frontier_drops(frontier, result.attribution),
        history_ids=history.ids,
        token_texts=result.token_texts,
        continuations=dict(enumerate(frontier.continuation or ())),
        examples=result.examples,
    )


def line(result: Result) -> str:
    """A result in one line: what was dreamed, how much was scored, and the best values."""
    run, history = result.run, result.history
    finite = np.isfinite(history.feature) & np.isfinite(history.cross_entropy)
    best = history.feature[finite]
    fluent = history.feature[finite & (history.cross_entropy < FLUENT_BELOW)]
    values = [f"{len(history):,} prompts scored", f"{len(result.frontier)} on the frontier"]
    if len(best):
        values.append(f"best {best.max():.3f}")
        below = f"{fluent.max():.3f}" if len(fluent) else "none"
        values.append(f"below {FLUENT_BELOW:g} nats/token {below}")
    if run.stopped:
        values.append(run.stopped)
    return f"<Result: {run.feature} in {run.model}, seed {run.seed}: {', '.join(values)}>"
