"""How strongly directions are reached at each layer (figure 6 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from epo_jax.report.line import padded
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.sheet import COLUMN, new_sheet


def layers_figure(
    layers: Sequence[int],
    kinds: Mapping[str, Float[np.ndarray, "L V"]],
    title: str,
    *,
    palette: Palette = LIGHT,
    published: tuple[Sequence[int], Sequence[float]] | None = None,
    width: float = COLUMN,
) -> Figure:
    """The largest z-score of each kind of prompt at each layer: mean and standard deviation over vectors.

    Args:
        layers: L of them, ascending.
        kinds: What was tried, such as dreams, dataset examples and random prompts, to float[L, V], the z-score that
            each of V vectors reached; V may differ, and what is not finite is left out.
        title: Any characters.
        palette: Colours.
        published: Layers and mean z-scores of a published result, drawn beside; None for none.
        width: Inches.
    """
    sheet = new_sheet(title, "", [], padded(layers), (0, 1), palette, width=width, ylabel="z-score", xlabel="layer")
    for values in kinds.values():
        sheet.axes.errorbar(layers, np.nanmean(values, axis=1), np.nanstd(values, axis=1))
    return sheet.figure
