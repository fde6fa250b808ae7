"""Random directions of the residual stream: how far above random prompts each kind of prompt gets, as z-scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

import epo_jax
from epo_jax.corpus import Scan
from epo_jax.corpus.against import FLUENT_BELOW
from epo_jax.errors import EpoError
from epo_jax.report.line import Line
from epo_jax.scoring.scale import Scale
from paper.tables import row_of

DREAMS, DATASET, RANDOM = KINDS = ("dreams", "dataset", "random")
# Each layer has vectors of its own, and more vectors are the same ones and others.
MOST_VECTORS = 1000


@dataclasses.dataclass(frozen=True)
class Direction:
    """One direction.

    Attributes:
        layer: the block before which the stream is read.
        vector: its number among the layer's.
    """

    layer: int
    vector: int

    @property
    def feature(self) -> str:
        """The feature string."""
        return f"residual:L{self.layer}:random:{MOST_VECTORS * self.layer + self.vector}"


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Prompts of one kind for a direction, taken against random prompts.

    Attributes:
        direction: the direction.
        kind: "dreams", "dataset" or "random".
        z: the largest z-score.
        cross_entropy: that prompt's, nats/token.
        z_fluent: the largest z-score below the limit of fluency; NaN where no prompt is.
        prompts: what a picture shows, with z-scores as features.
    """

    direction: Direction
    kind: str
    z: float
    cross_entropy: float
    z_fluent: float
    prompts: Line

    def row(self) -> dict[str, object]:
        """Its row of the table."""
        numbers = {"z": self.z, "cross_entropy": self.cross_entropy, "z_fluent": self.z_fluent}
        return {**dataclasses.asdict(self.direction), "kind": self.kind, **numbers}


def prompts_of(
    direction: Direction,
    kind: str,
    scale: Scale,
    values: Float[np.ndarray, " N"],
    cross_entropy: Float[np.ndarray, " N"],
) -> Found:
    """What prompts of a kind reach.

    Args:
        direction: the direction.
        kind: "dreams", "dataset" or "random".
        scale: mean and standard deviation over random prompts.
        values: of the prompts.
        cross_entropy: theirs, nats/token.
    """
    line = Line(f"vector {direction.vector}", cross_entropy, scale.of(np.asarray(values, np.float32)))
    best = line.best()
    nats = math.nan if best is None else float(cross_entropy[best])
    return Found(direction, kind, line.largest(), nats, line.largest(FLUENT_BELOW), line)


def dream_of(direction: Direction, scale: Scale, results: Sequence[epo_jax.Result]) -> Found:
    """What the dreams of a direction reach, over all prompts that they scored; a picture shows their frontier."""
    values = np.concatenate([result.history.feature for result in results])
    nats = np.concatenate([result.history.cross_entropy for result in results])
    frontier = epo_jax.merge_frontiers(results)
    drawn = prompts_of(direction, DREAMS, scale, frontier.feature, frontier.cross_entropy)
    return dataclasses.replace(prompts_of(direction, DREAMS, scale, values, nats), prompts=drawn.prompts)


def dataset_of(direction: Direction, scale: Scale, scan: Scan) -> Found:
    """What the dataset examples of a direction reach, as isolated prompts."""
    examples = scan.examples(direction.feature)
    alone, nats = examples.isolated_activation, examples.isolated_cross_entropy
    if alone is None or nats is None:
        raise EpoError(f"{scan.folder}: the examples of {direction.feature} were not scored as isolated prompts")
    return prompts_of(direction, DATASET, scale, alone, nats)


def table_of(found: Iterable[Found]) -> pd.DataFrame:
    """A row for each direction and kind: layer, vector, kind, z, cross_entropy, z_fluent."""
    # Pictures give their colours in the order of the kinds.
    ordered = sorted(found, key=lambda one: (one.direction.layer, one.direction.vector, KINDS.index(one.kind)))
    return pd.DataFrame([one.row() for one in ordered])


def by_layer(table: pd.DataFrame, layers: Sequence[int], column: str = "z") -> dict[str, Float[np.ndarray, "L V"]]:
    """Each kind's z-scores, float[L, V] over layers and vectors.

    Args:
        table: as `table_of` gives it.
        layers: the rows.
        column: "z" or "z_fluent".
    """
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    vectors = int(table["vector"].max()) + 1
    found = {kind: np.full((len(layers), vectors), np.nan) for kind in kinds}
    for layer, vector, kind, value in table[["layer", "vector", "kind", column]].itertuples(index=False):
        found[kind][list(layers).index(layer), vector] = value
    return found


def layers_table(table: pd.DataFrame, layers: Sequence[int], published: Mapping[int, float]) -> str:
    """Mean and standard deviation over vectors, in Markdown.

    Args:
        table: as `table_of` gives it.
        layers: ascending.
        published: the paper's mean of dreams, by layer; empty for none.
    """
    columns: dict[str, list[str]] = {}
    for kind in KINDS:
        for column, suffix in (("z", ""), ("z_fluent", f" < {FLUENT_BELOW:g}")):
            values = by_layer(table, layers, column).get(kind)
            # An empty column says that no dream is fluent; that no random prompt is goes without saying.
            if values is None or (kind == RANDOM and not np.isfinite(values).any()):
                continue
            columns[kind + suffix] = [_mean(row) for row in values]
            if kind == DREAMS and column == "z" and published:
                columns["dreams, published"] = [
                    f"{published[layer]:.2f}" if layer in published else "" for layer in layers
                ]
    lines = [row_of(["layer", *columns]), row_of(["---:"] * (len(columns) + 1))]
    for number, layer in enumerate(layers):
        lines.append(row_of([str(layer), *(cells[number] for cells in columns.values())]))
    return "\n".join(lines) + "\n"


def _mean(values: Float[np.ndarray, " V"]) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return ""
    text = f"{known.mean():.2f} ± {known.std():.2f}"
    return text if known.size == len(values) else f"{text} ({known.size} of {len(values)})"
