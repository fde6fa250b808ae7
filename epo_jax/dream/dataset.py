"""Dataset examples beside a dream: out of a scan of a corpus, and in the run folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int32
from transformers import PreTrainedTokenizerFast

from epo_jax.corpus import DatasetExamples, Scan, load_scan
from epo_jax.corpus.against import compare
from epo_jax.dream.folders import EXAMPLES
from epo_jax.dream.frontier import Frontier
from epo_jax.dream.starts import Keep
from epo_jax.errors import EpoError
from epo_jax.models.tokenizers import texts_by_id
from epo_jax.parallel import processes
from epo_jax.report.examples_data import Example, Examples

if TYPE_CHECKING:
    from epo_jax.dream.result import Result

# Examples that a report shows, and tokens of the context before each.
MOST = 16
BEFORE = 48


def opened_scan(scan: Scan | str | Path | None, model: str, length: int) -> Scan | None:
    """A scan, open, on the one process that looks at files; None on others, and where there is none.

    Args:
        scan: itself or its folder.
        model: that is dreamed.
        length: tokens of the dreams.

    Raises:
        EpoError: no scan, or one that dreams of this model and length cannot be held against.
    """
    found: list[Scan] = []

    def open_it() -> None:
        if scan is not None:
            found.append(scan if isinstance(scan, Scan) else load_scan(Path(scan).expanduser()))
            found[0].check(model, length, f"--scan={found[0].folder}: the dream")

    processes.on_writer(open_it, "scan")
    return found[0] if found else None


def example_prompts(
    scan: Scan | None,
    features: Sequence[str],
    count: int,
    allowed: Bool[np.ndarray, " V"] | None = None,
    keep: Keep | None = None,
) -> Int32[np.ndarray, "R P T"]:
    """Dataset examples to start from: of each feature those that activate it most without what stands before them.

    Args:
        scan: with the features; None on processes that do not look at files.
        features: strings, one for each dream.
        count: prompts of each dream (P); fewer examples than that are repeated in order.
        allowed: bool[V], tokens that they may hold.
        keep: which of them may stay.

    Raises:
        EpoError: a feature that the scan does not have, or of which it has no example that may stay.
    """

    def found() -> list[list[list[int]]]:
        assert scan is not None
        prompts = []
        for name in features:
            examples = scan.examples(name)
            ids = examples.ids
            if examples.isolated_activation is not None:
                ids = ids[np.argsort(-examples.isolated_activation, kind="stable")]
            ids = ids[np.sort(np.unique(ids, axis=0, return_index=True)[1])]
            fine = np.ones(len(ids), np.bool_) if allowed is None else allowed[ids].all(axis=1)
            ids = ids[fine]
            ids = ids if keep is None or not len(ids) else ids[keep(ids)]
            if not len(ids):
                raise EpoError(
                    f"--init=dataset: of {len(examples.ids)} examples of {name} in {scan.folder} none may be a prompt; "
                    "relax the constraints, or start in another way"
                )
            prompts.append(ids[np.arange(count) % len(ids)].tolist())
        return prompts

    return np.asarray(processes.on_writer(found, "examples"), np.int32)


def with_examples(scan: Scan, results: Sequence[Result], tokenizer: PreTrainedTokenizerFast) -> list[Result]:
    """Results with the dataset examples of their features, as far as a scan has them."""
    return [
        dataclasses.replace(
            result, examples=examples_of(scan, result.run.feature, result.frontier, tokenizer) or result.examples
        )
        for result in results
    ]


def examples_of(
    scan: Scan, feature: str, frontier: Frontier, tokenizer: PreTrainedTokenizerFast, most: int = MOST
) -> Examples | None:
    """What a scan has of a feature, held against a dream; None where it has not the feature, or no example of it.

    Args:
        scan: of the same model and length, see `Scan.check`.
        feature: its string.
        frontier: of the dream.
        tokenizer: the model's.
        most: rows, the strongest in context.
    """
    if feature not in scan.features:
        return None
    found = scan.examples(feature)
    if not len(found.activation):
        return None
    sentence = ""
    if found.isolated_activation is not None:
        sentence = compare(found, frontier.feature, frontier.cross_entropy).sentence(scan.positions)
    return Examples(
        corpus=scan.corpus,
        tokens=scan.tokens,
        positions=scan.positions,
        maximum=found.maximum,
        percentiles=found.percentiles,
        rows=tuple(_row(found, row, tokenizer) for row in range(min(most, len(found.activation)))),
        sentence=sentence,
    )


def _row(found: DatasetExamples, row: int, tokenizer: PreTrainedTokenizerFast) -> Example:
    context, stop = found.context[row], int(found.position[row]) + 1
    start = stop - found.ids.shape[1]
    before, ids = context[max(0, start - BEFORE) : start].tolist(), found.ids[row].tolist()
    text = texts_by_id(tokenizer, np.asarray(before + ids, np.int32))
    alone, nats = found.isolated_activation, found.isolated_cross_entropy
    return Example(
        document=found.document[row],
        before=tuple(text[token] for token in before),
        tokens=tuple(text[token] for token in ids),
        activation=float(found.activation[row]),
        isolated_activation=None if alone is None else float(alone[row]),
        isolated_cross_entropy=None if nats is None else float(nats[row]),
    )


def save_examples(folder: Path, examples: Examples | None) -> None:
    """Write a run folder's dataset examples; of an earlier run nothing stays. Raises OSError."""
    path = folder / EXAMPLES
    path.unlink(missing_ok=True)
    if examples is not None:
        text = json.dumps(dataclasses.asdict(examples), ensure_ascii=False, indent=1)
        path.write_text(text + "\n", encoding="utf-8")


def load_examples(folder: Path) -> Examples | None:
    """The dataset examples of a run folder; None if it has none.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: a damaged file.
    """
    path = folder / EXAMPLES
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple(
        Example(**{**row, "before": tuple(row["before"]), "tokens": tuple(row["tokens"])}) for row in values["rows"]
    )
    percentiles = {float(percentage): value for percentage, value in values["percentiles"].items()}
    return Examples(**{**values, "rows": rows, "percentiles": percentiles})
