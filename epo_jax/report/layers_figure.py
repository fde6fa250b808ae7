"""How strongly directions are reached at each layer (figure 6 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from epo_jax.report.line import padded
from epo_jax.report.palette import LIGHT, Palette
from epo_jax.report.sheet import COLUMN, Key, new_sheet

_CAP = 2.0  # points


def layers_figure(
    layers: Sequence[int],
    kinds: Mapping[str, Float[np.ndarray, "L _"]],
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
    keys = [Key(name, style) for name, style in zip(kinds, _styles(len(kinds), palette), strict=True)]
    moments = [_moments(np.asarray(values, np.float64)) for values in kinds.values()]
    reach = [part for mean, deviation in moments for part in (mean - deviation, mean + deviation)]
    known = list(layers)
    if published is not None:
        star = {"color": palette.ink, "marker": "*", "markersize": 6.0, "linewidth": 0.9, "linestyle": (0, (6, 2))}
        keys.append(Key("published", star))
        reach.append(np.asarray(published[1], np.float64))
        known += list(published[0])
    x, y = padded(known), padded(np.concatenate([np.zeros(0), *reach]))
    vectors = max((np.shape(values)[1] for values in kinds.values()), default=0)
    told = f"mean and standard deviation over {vectors:,} vectors" if vectors > 1 else ""
    sheet = new_sheet(title, told, keys, x, y, palette, width=width, ylabel="largest z-score", xlabel="layer")
    # Bars of several kinds at one layer stand beside one another.
    step = 0.012 * (x[1] - x[0])
    for number, (key, (mean, deviation)) in enumerate(zip(keys, moments, strict=False)):
        at = np.asarray(layers, np.float64) + (number - (len(moments) - 1) / 2) * step
        sheet.axes.errorbar(at, mean, deviation, **key.style, elinewidth=0.8, capsize=_CAP, capthick=0.8, zorder=3)
    if published is not None:
        sheet.axes.plot(*published, **keys[-1].style, zorder=4)
    sheet.axes.set_xticks(sorted(set(known)))
    return sheet.figure


def _moments(values: Float[np.ndarray, "L V"]) -> tuple[Float[np.ndarray, "L"], Float[np.ndarray, "L"]]:
    """Mean and standard deviation of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    count = finite.sum(axis=1)
    with np.errstate(invalid="ignore"):
        mean = np.where(finite, values, 0.0).sum(axis=1) / count
        deviation = np.sqrt((np.where(finite, values - mean[:, None], 0.0) ** 2).sum(axis=1) / count)
    return mean, deviation


def _styles(count: int, palette: Palette) -> list[dict[str, Any]]:
    kinds: list[tuple[str, str, Any]] = [
        (palette.dream, "o", "solid"),
        (palette.dataset, "D", (0, (4, 1.5))),
        (palette.random, "s", (0, (1, 1.2))),
        (palette.fluent, "^", (0, (4, 1.5, 1, 1.5))),
        (palette.overall, "v", (0, (2, 1))),
    ]
    chosen = [kinds[number % len(kinds)] for number in range(count)]
    return [{"color": c, "marker": m, "linestyle": s, "markersize": 3.4, "linewidth": 1.2} for c, m, s in chosen]
