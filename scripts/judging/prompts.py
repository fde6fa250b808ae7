"""Prompts that searches found, side by side, for a reader to judge."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from judging.measures import BELOW_6
from judging.methods import REFERENCE
from judging.records import Record

# Features whose prompts are shown.
MOST = 10


def prompts_table(method: str, records: Sequence[Record], below: float = BELOW_6) -> str:
    """A Markdown row for each feature: the best prompt below a cross-entropy, of the reference and of a method.

    Args:
        method: held beside the reference.
        records: in the order in which features are shown; the first seed that both have counts.
        below: nats/token.
    """
    by_run = {(record.run.method, record.run.feature, record.run.seed): record for record in records}
    lines = ["| feature | search | z | nats/token | prompt |", "| --- | --- | ---: | ---: | --- |"]
    shown: set[str] = set()
    for record in records:
        run = record.run
        other = by_run.get((REFERENCE, run.feature, run.seed))
        if run.method != method or other is None or run.feature in shown or len(shown) == MOST:
            continue
        shown.add(run.feature)
        for name, one in ((REFERENCE, other), (method, record)):
            lines.append(_row(run.feature, name, best_below(one.frontier, below)))
    return "\n".join(lines) + "\n"


def best_below(frontier: Sequence[Mapping[str, Any]], below: float) -> Mapping[str, Any] | None:
    """Of a frontier the prompt with the largest z below a cross-entropy in nats/token; None where there is none."""
    fluent = [prompt for prompt in frontier if prompt["cross_entropy"] < below]
    return max(fluent, key=lambda prompt: float(prompt["z"]), default=None)


def _row(feature: str, name: str, prompt: Mapping[str, Any] | None) -> str:
    if prompt is None:
        return f"| {_code(feature)} | {name} | none | | |"
    z, nats = f"{prompt['z']:.1f}", f"{prompt['cross_entropy']:.2f}"
    return f"| {_code(feature)} | {name} | {z} | {nats} | {_code(prompt['text'])} |"


def _code(text: str) -> str:
    """Text of any kind as code in a table; what a line would be broken by has escapes."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    # A fence is longer than any run of its marks inside.
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}".replace("|", "\\|")
