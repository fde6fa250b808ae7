"""Feature and cross-entropy of texts, whole and token by token.

python scripts/score.py --model=smollm2-135m --feature=L7.N690 --text="What the fox said" --text="What the dog said"

prints the feature, the cross-entropy in nats/token and the perplexity of each text, and for each of its tokens the
surprisal in nats and, for features that are read at one token, the feature if it were read there. --file=FILE takes a
text from each line, --file=- from standard input; --output=FILE.csv or FILE.json writes everything down.

python scripts/score.py --model=EleutherAI/pythia-12b-deduped --paper

scores the prompts that the paper published, and prints its numbers and the model's side by side.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import flags
from rich.console import Console
from rich.table import Table
from rich.text import Text
from texts import given
from texts.paper import Compared, compare, facts, is_papers
from texts.sources import read_texts, writable

import epo_jax
from epo_jax import command_line
from epo_jax.errors import EpoError, one_line
from epo_jax.models.tokenizers import token_texts
from epo_jax.report.tokens import visible
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.template import Template, frozen_tokens
from epo_jax.scoring.texts import TextScores, score_texts, text_ids

FEATURE = flags.DEFINE_string("feature", None, 'what is read, such as "L10.N5" or "logit: dog"')
TOKENS = flags.DEFINE_boolean("tokens", True, "whether tables of each text's tokens are printed")
PAPER = flags.DEFINE_boolean("paper", False, "whether the published prompts of the paper are scored instead")
OUTPUT = flags.DEFINE_string("output", None, "FILE.csv (a row for each token) or FILE.json to write")


def main() -> None:
    """Score, print, write."""
    output = _output()
    if PAPER.value and (given.TEXT.value or given.FILE.value or FEATURE.value or given.READ.value != LAST):
        raise EpoError("--paper: has its own texts and features; leave out --text, --file, --feature and --read")
    texts = [] if PAPER.value else read_texts(given.TEXT.value, given.FILE.value)
    name = FEATURE.value or ""
    if not PAPER.value and not name:
        raise EpoError('--feature: none given; say what to read, such as --feature=L7.N690 or --feature="logit: dog"')
    template = given.template()
    lm = given.load()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    if PAPER.value:
        rows = _paper(console, lm, template)
    else:
        feature = epo_jax.parse_feature(name, lm)
        frozen = frozen_tokens(lm, template)
        ids = [text_ids(lm, text, frozen) for text in texts]
        scores = score_texts(lm, [feature] * len(ids), ids, template, read=given.READ.value)
        rows = _texts(console, lm, texts, scores)
    if output is not None:
        _write(output, rows)


def _texts(
    console: Console, lm: epo_jax.LanguageModel, texts: Sequence[str], scores: Sequence[TextScores]
) -> list[dict[str, Any]]:
    table = Table("#", "feature", "nats/token", "perplexity", "text")
    rows: list[dict[str, Any]] = []
    for number, (text, found) in enumerate(zip(texts, scores, strict=True), 1):
        numbers = (f"{found.feature:.4f}", f"{found.cross_entropy:.3f}", f"{_perplexity(found.cross_entropy):.4g}")
        table.add_row(str(number), *numbers, Text(visible(text)))
        tokens = token_texts(lm.tokenizer, found.ids.tolist())
        parts = [
            "prefix" if at < found.first else "suffix" if at >= found.stop else "text" for at in range(len(tokens))
        ]
        each = [None] * len(tokens) if found.at_tokens is None else found.at_tokens.tolist()
        rows.append(
            {
                "text": text,
                "feature": found.feature,
                "cross_entropy": found.cross_entropy,
                "perplexity": _perplexity(found.cross_entropy),
                "tokens": [
                    {
                        "position": at,
                        "part": part,
                        "id": int(index),
                        "token": token,
                        "surprisal": nats,
                        "feature": value,
                    }
                    for at, (part, index, token, nats, value) in enumerate(
                        zip(parts, found.ids, tokens, found.surprisal.tolist(), each, strict=True)
                    )
                ],
            }
        )
    console.print(Text(f"{FEATURE.value} in {lm.source}"), table, sep="\n")
    for number, row in enumerate(rows if TOKENS.value else [], 1):
        details = Table("position", "part", "token", "surprisal", "feature")
        for token in row["tokens"]:
            value = "" if token["feature"] is None else f"{token['feature']:.4f}"
            nats = "" if math.isnan(token["surprisal"]) else f"{token['surprisal']:.3f}"
            details.add_row(str(token["position"]), token["part"], Text(visible(token["token"])), nats, value)
        console.print(Text(f"tokens of text {number}"), details, sep="\n")
    return rows


def _paper(console: Console, lm: epo_jax.LanguageModel, template: Template) -> list[dict[str, Any]]:
    model = facts()["settings"]["model"]
    if is_papers(lm):
        console.print(f"the prompts were published for {model}, and this is it", soft_wrap=True)
    else:
        console.print(
            f"the prompts were published for {model}, and the model here is {lm.source}: if that is another model, "
            "none of its numbers need be like the published ones",
            soft_wrap=True,
        )
    rows = compare(lm, template)
    table = Table("feature", "published", "here", "nats/token published", "here", "text", "note")
    for row in rows:
        told = row.published
        here = ("", "") if row.value is None else (f"{row.value:.2f}", f"{row.cross_entropy:.2f}")
        table.add_row(
            Text(told.feature), f"{told.value:.2f}", here[0], f"{told.cross_entropy:.2f}", here[1],
            Text(visible(told.text)), Text(one_line(row.note) if row.note else ""),
        )  # fmt: skip
    console.print(table)
    scored = [row for row in rows if row.value is not None]
    checked = [row for row in scored if not row.note]
    console.print(
        f"{len(rows)} published prompts: {len(scored)} scored, {len(checked)} of them with as many tokens as in the "
        f"paper{_differences(checked)}",
        soft_wrap=True,
    )
    return [_flat(row) for row in rows]


def _differences(rows: Sequence[Compared]) -> str:
    if not rows:
        return ""
    feature = np.abs([row.value - row.published.value for row in rows if row.value is not None])
    nats = [row.cross_entropy - row.published.cross_entropy for row in rows if row.cross_entropy is not None]
    return (
        f"; these differ from the published ones by {np.median(feature):.2f} (feature) and "
        f"{np.median(np.abs(nats)):.2f} nats/token in the median, and by {feature.max():.2f} and "
        f"{np.abs(nats).max():.2f} at most"
    )


def _flat(row: Compared) -> dict[str, Any]:
    told = row.published
    return {
        "feature": told.feature,
        "published": told.value,
        "here": row.value,
        "published_cross_entropy": told.cross_entropy,
        "cross_entropy": row.cross_entropy,
        "tokens": row.tokens,
        "text": told.text,
        "note": row.note,
    }


def _perplexity(cross_entropy: float) -> float:
    return math.exp(cross_entropy) if cross_entropy < 700 else math.inf


def _output() -> Path | None:
    if OUTPUT.value is None:
        return None
    path = writable(OUTPUT.value)
    if path.suffix not in (".csv", ".json"):
        raise EpoError(f"--output={OUTPUT.value}: its name must end in .csv or .json")
    return path


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    try:
        if path.suffix == ".json":
            path.write_text(json.dumps(_finite(rows), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            return
        if rows and "tokens" in rows[0] and isinstance(rows[0]["tokens"], list):
            rows = [
                {**{name: row[name] for name in ("text", "feature", "cross_entropy", "perplexity")}, **_renamed(token)}
                for row in rows
                for token in row["tokens"]
            ]
        pd.DataFrame(rows).to_csv(path, index=False)
    except OSError as error:
        raise EpoError(f"--output={path}: cannot be written ({error.strerror})") from error


def _renamed(token: dict[str, Any]) -> dict[str, Any]:
    return {"token_feature" if name == "feature" else name: value for name, value in token.items()}


def _finite(value: Any) -> Any:
    """JSON knows no numbers that are not finite."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    command_line.start(main, "score")
