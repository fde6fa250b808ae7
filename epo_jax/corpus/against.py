"""Dreams against dataset examples, by what both are as isolated prompts of T tokens (figure 3 of the paper)."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from epo_jax.corpus.examples import DatasetExamples
from epo_jax.errors import EpoError, one_line

# Nats/token below which a prompt passes for fluent.
FLUENT_BELOW = 6.0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far the prompts of a dream exceed the best that a corpus has.

    All numbers but the last two are of isolated prompts; NaN where there is no prompt of the kind.

    Attributes:
        feature: its string.
        dream: the largest value of a prompt of the dream.
        dream_fluent: of its prompts below `FLUENT_BELOW` nats/token.
        dream_at_dataset: of its prompts whose cross-entropy is no larger than that of the dataset's best.
        dataset: the largest isolated activation of a dataset example.
        dataset_cross_entropy: that example's, nats/token.
        dataset_fluent: the largest isolated activation of an example below `FLUENT_BELOW` nats/token.
        in_context: the largest activation in the corpus, with all the context that it had.
        percentile_999: 99.9 of 100 positions of the corpus have less.
    """

    feature: str
    dream: float
    dream_fluent: float
    dream_at_dataset: float
    dataset: float
    dataset_cross_entropy: float
    dataset_fluent: float
    in_context: float
    percentile_999: float

    def sentence(self, positions: int) -> str:
        """What a reader wants to know, in one sentence."""
        start = f"At {self.dataset_cross_entropy:.2f} nats/token, the cross-entropy of the dataset's best example, "
        if math.isnan(self.dream_at_dataset):
            return f"{start}there is no dream of {self.feature}."
        above = self.dream_at_dataset - self.dataset
        side = "higher" if above >= 0 else "lower"
        return (
            f"{start}the dream of {self.feature} is {abs(above):.2f} {side} than the best "
            f"of {positions:,} tokens ({self.dream_at_dataset:.2f} against {self.dataset:.2f})."
        )


def compare(
    examples: DatasetExamples, feature: Float[np.ndarray, " n"], cross_entropy: Float[np.ndarray, " n"]
) -> Comparison:
    """Hold a dream against the dataset.

    Args:
        examples: of the same feature, scored as isolated prompts.
        feature: of the dream's prompts, such as its frontier's.
        cross_entropy: theirs, nats/token.

    Raises:
        EpoError: examples that were not scored as isolated prompts, or none at all.
    """
    alone, nats = examples.isolated_activation, examples.isolated_cross_entropy
    if alone is None or nats is None or not len(alone):
        raise EpoError(
            f"--isolated={examples.feature}: its dataset examples were not scored as isolated prompts; scan with it"
        )
    best = int(alone.argmax())
    return Comparison(
        feature=examples.feature,
        dream=_largest(feature, cross_entropy, math.inf),
        dream_fluent=_largest(feature, cross_entropy, FLUENT_BELOW),
        dream_at_dataset=_largest(feature, cross_entropy, float(nats[best]), including=True),
        dataset=float(alone[best]),
        dataset_cross_entropy=float(nats[best]),
        dataset_fluent=_largest(alone, nats, FLUENT_BELOW),
        in_context=examples.maximum,
        percentile_999=examples.percentiles[99.9],
    )


def read_comparisons(path: str | Path) -> list[Comparison]:
    """Read the table that scripts/compare_dataset.py writes.

    Args:
        path: a .csv file; the names of its columns are the attributes of `Comparison`.

    Raises:
        EpoError: a file that cannot be read, or another table; named by the flag --table.
    """
    names = [field.name for field in dataclasses.fields(Comparison)]
    form = "a .csv file of scripts/compare_dataset.py is read"
    try:
        table = pd.read_csv(path)
        missing = [name for name in names if name not in table]
        numbers = [] if missing else table[names[1:]].astype(float).values.tolist()
    except (OSError, ValueError) as error:
        raise EpoError(f"--table={path}: cannot be read ({one_line(error)}); {form}") from error
    if not numbers:
        raise EpoError(f"--table={path}: {f'lacks {missing[0]}' if missing else 'has no rows'}; {form}")
    return [Comparison(str(name), *row) for name, row in zip(table[names[0]], numbers, strict=True)]


def _largest(value: np.ndarray, cross_entropy: np.ndarray, limit: float, including: bool = False) -> float:
    chosen = value[cross_entropy <= limit if including else cross_entropy < limit]
    return float(chosen.max()) if len(chosen) else math.nan
