"""Pictures for papers of runs: which ones, of what, under which names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from epo_jax.corpus import Scan
from epo_jax.dream.attributions import frontier_drops
from epo_jax.dream.lines import WAYS, Against, bests_of
from epo_jax.dream.progress import FLUENT_BELOW
from epo_jax.dream.result import Result
from epo_jax.errors import EpoError
from epo_jax.report.attribution_figure import attribution_figure
from epo_jax.report.dataset_figure import dataset_figure
from epo_jax.report.dataset_pages import dataset_pages
from epo_jax.report.labels import choose
from epo_jax.report.saved_figure import write_figures
from epo_jax.report.sheet import COLUMN, PAGE, SIZE
from epo_jax.report.summary_figure import summary_figure

Pictures = Mapping[str, Sequence[Figure]]
"""Pages of each picture, by what its file name ends in; the first one's is empty."""


def dataset_pictures(found: Sequence[Against], scan: Scan, title: str = "", width: float = COLUMN) -> Pictures:
    """Dreams against dataset examples: one picture of one feature, or panels and what they come to in sum.

    Args:
        found: by `hold_against`; at least one.
        scan: that they were held against.
        title: of the picture; by default the features, the model and the size of the corpus.
        width: inches, of a picture of one feature.
    """
    model = scan.settings["model"]
    if len(found) == 1:
        panel = found[0].panel
        one = dataset_figure(
            panel.dreams,
            panel.examples,
            title or f"{panel.title} in {model}",
            percentile=panel.percentile,
            maximum=panel.maximum,
            width=width,
        )
        return {"": [one]}
    pages = dataset_pages([one.panel for one in found], title or f"Dreams against dataset examples in {model}")
    sum_title = title or f"{len(found)} features of {model}: dreams against the best of {scan.positions:,} tokens"
    rows = [bests_of(one.comparison) for one in found]
    return {"": pages, "-summary": [summary_figure(rows, WAYS, sum_title, f"corpus: {scan.corpus}")]}


def attribution_picture(result: Result, most: int) -> tuple[Figure, int]:
    """Which tokens of the frontier's prompts matter.

    Args:
        result: of a run.
        most: prompts; of more that were attributed the best, the best fluent and the most fluent one, and some between.

    Returns:
        The picture, and how many prompts it shows.

    Raises:
        EpoError: a run without attributions.
    """
    drops = frontier_drops(result.frontier, result.attribution)
    if not drops:
        raise EpoError("has no attributions; a dream without --noattribution keeps them")
    rows = sorted(drops)
    points = np.stack([result.frontier.cross_entropy[rows], result.frontier.feature[rows]], axis=1).astype(np.float64)
    fluent = np.flatnonzero(points[:, 0] < FLUENT_BELOW)
    wanted = list(dict.fromkeys([len(rows) - 1, *fluent[-1:].tolist(), 0]))
    chosen = [rows[index] for index in choose(points, wanted[:most], most)]
    numbers = [row + 1 for row in chosen]
    prompts = [drops[row] for row in chosen]
    figure = attribution_figure(prompts, result.run.feature, result.run.model, numbers, width=PAGE, size=SIZE)
    return figure, len(chosen)


def save_pictures(pictures: Pictures, path: str | Path) -> list[Path]:
    """Write pictures as PNG and PDF.

    Args:
        pictures: what to write.
        path: without ending; its folder is made.

    Returns:
        The files.

    Raises:
        EpoError: a file cannot be written; named by the flag --output.
    """
    base = Path(path).expanduser()
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        return [
            file for end, pages in pictures.items() for file in write_figures(pages, base.with_name(base.name + end))
        ]
    except OSError as error:
        raise EpoError(f"--output={path}: cannot be written ({error.strerror or error})") from error
