"""Which tokens of the frontier's prompts matter: which prompts are tried, and what a report shows of them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transformers import PreTrainedTokenizerFast

from epo_jax.attribution import ALTERNATIVES, Attribution
from epo_jax.attribution.causal import AT_ONCE, replaced
from epo_jax.attribution.result import with_texts
from epo_jax.dream.frontier import Frontier
from epo_jax.dream.memory import rows_of, scorer_of
from epo_jax.dream.progress import FLUENT_BELOW
from epo_jax.epo import Algorithm
from epo_jax.epo.lengths import bare
from epo_jax.errors import EpoError
from epo_jax.report import PromptDrops, Replacement, TokenDrops, write_attribution_png

if TYPE_CHECKING:
    from epo_jax.dream.result import Result

ATTRIBUTIONS, ATTRIBUTIONS_PICTURE = "attributions.json", "attributions.png"
# What attribution may cost by default: alternatives as a share of the prompts that the search scored, but always enough
# for the most fluent prompt, the best fluent one and the best. Few frontiers are so long that this leaves some out.
SHARE = 1.0
LEAST = 3
# Replacements of a token that a report shows, of the worst and of the best.
SHOWN = 3


def check_share(share: float) -> float:
    """What attribution may cost, if it can be used.

    Raises:
        EpoError: it cannot.
    """
    if isinstance(share, bool) or not 0 < share < math.inf:
        raise EpoError(
            f"--attribution_share={share}: must be a number above 0, a share of the prompts that the search scored; "
            "--noattribution leaves attribution out"
        )
    return share


def with_attributions(
    algorithm: Algorithm, results: Sequence[Result], tokenizer: PreTrainedTokenizerFast, share: float = SHARE
) -> list[Result]:
    """Results with the attributions of their frontiers' prompts, or of some where all would take too long.

    Args:
        algorithm: the search of all of them, whose scorer has each one's feature.
        results: one for each dream, in its order.
        tokenizer: the model's.
        share: what that may cost, of the prompts that the search scored.
    """
    rows = [attributed_rows(result.frontier, len(result.history), share) for result in results]
    if not any(rows):
        return list(results)
    ids = np.concatenate([result.frontier.ids[chosen] for result, chosen in zip(results, rows, strict=True)])
    dream = np.repeat(np.arange(len(results), dtype=np.int32), [len(chosen) for chosen in rows])
    # Groups of one size, whatever the frontiers' lengths: the compiled program serves other runs too.
    baseline, alternatives, values = replaced(
        scorer_of(algorithm), ids, dream, algorithm.allowed, at_once=AT_ONCE, micro_batch=rows_of(algorithm)
    )
    attributed = []
    for number, result in enumerate(results):
        own = dream == number
        if own.any():
            found = with_texts(result.run.feature, ids[own], baseline[own], alternatives[own], values[own], tokenizer)
            result = dataclasses.replace(result, attribution=found)
        attributed.append(result)
    return attributed


def attributed_rows(frontier: Frontier, scored: int, share: float = SHARE) -> list[int]:
    """The rows of a frontier that are tried: all, or the most fluent, the best ones and some spread evenly between.

    Args:
        frontier: of prompts.
        scored: prompts that the search scored.
        share: alternatives may be as many as this share of them.
    """
    count, length = frontier.ids.shape
    limit = max(LEAST, int(share * scored / (length * ALTERNATIVES)))
    if count <= limit:
        return list(range(count))
    fluent = np.flatnonzero(frontier.cross_entropy < FLUENT_BELOW)
    chosen = {0, count - 1} | ({int(fluent[-1])} if len(fluent) else set())
    while len(chosen) < limit:
        # The row that is farthest from all chosen ones, the first of such.
        gaps = np.abs(np.arange(count)[:, None] - sorted(chosen)).min(axis=1)
        chosen.add(int(gaps.argmax()))
    return sorted(chosen)


def drops_of(attribution: Attribution, cross_entropy: Sequence[float] | None = None) -> list[PromptDrops]:
    """What a report shows of each prompt.

    Args:
        attribution: of the prompts.
        cross_entropy: of each prompt, in nats/token; None where it is not known.
    """
    return [
        PromptDrops(
            feature=float(attribution.baseline[prompt]),
            tokens=tuple(_token(attribution, prompt, position) for position in range(len(attribution.tokens[prompt]))),
            alternatives=attribution.values.shape[2],
            cross_entropy=None if cross_entropy is None else float(cross_entropy[prompt]),
        )
        for prompt in range(len(attribution))
    ]


def frontier_drops(frontier: Frontier, attribution: Attribution | None) -> dict[int, PromptDrops]:
    """What a report shows of those prompts of a frontier that were tried, by their rows."""
    if attribution is None:
        return {}
    row_of = {bare(ids).tobytes(): row for row, ids in enumerate(frontier.ids)}
    rows = [row_of[bare(ids).tobytes()] for ids in attribution.ids]
    drops = drops_of(attribution, frontier.cross_entropy[rows].tolist())
    return dict(zip(rows, drops, strict=True))


def save_attributions(folder: Path, result: Result) -> None:
    """Write a run folder's attributions; of an earlier run nothing stays. Raises OSError."""
    for name in (ATTRIBUTIONS, ATTRIBUTIONS_PICTURE):
        (folder / name).unlink(missing_ok=True)
    if result.attribution is None:
        return
    text = json.dumps(result.attribution.to_json(), ensure_ascii=False, allow_nan=False)
    (folder / ATTRIBUTIONS).write_text(text + "\n", encoding="utf-8")


def save_attributions_picture(folder: Path, result: Result) -> None:
    """Write a run folder's picture of attributions, if the result has any. Raises OSError."""
    if result.attribution is None:
        return
    drops = frontier_drops(result.frontier, result.attribution)
    numbers = [row + 1 for row in drops]
    write_attribution_png(
        folder / ATTRIBUTIONS_PICTURE, list(drops.values()), result.run.feature, result.run.model, numbers
    )


def load_attribution(folder: Path, frontier: Frontier) -> Attribution | None:
    """The attributions of a run folder; None if it has none.

    Raises:
        OSError, ValueError, KeyError, TypeError: a file that is damaged, or about other prompts than the frontier's.
    """
    path = folder / ATTRIBUTIONS
    if not path.exists():
        return None
    attribution = Attribution.from_json(json.loads(path.read_text(encoding="utf-8")))
    tried, there = ({bare(ids).tobytes() for ids in prompts} for prompts in (attribution.ids, frontier.ids))
    if not tried <= there:
        raise ValueError(f"{ATTRIBUTIONS} has prompts that are not on the frontier")
    return attribution


def _token(attribution: Attribution, prompt: int, position: int) -> TokenDrops:
    texts, values = attribution.alternative_tokens[prompt][position], attribution.values[prompt, position]
    ranks = attribution.best_first(prompt, position)

    def replacements(ranks: Sequence[int]) -> tuple[Replacement, ...]:
        return tuple(Replacement(texts[rank], float(values[rank])) for rank in ranks)

    return TokenDrops(
        text=attribution.tokens[prompt][position],
        to_worst=float(attribution.drop_to_worst[prompt, position]),
        to_best=float(attribution.drop_to_best[prompt, position]),
        worst=replacements(ranks[::-1][:SHOWN].tolist()),
        best=replacements(ranks[:SHOWN].tolist()),
    )
