"""Which tokens matter, on a page: shaded tokens whose replacements are seen by pointer, by keyboard and by touch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from epo_jax.report.attribution_data import PromptDrops, TokenDrops
from epo_jax.report.attribution_marks import formatted, marks
from epo_jax.report.data import format_cross_entropy
from epo_jax.report.pages import template
from epo_jax.report.tokens import one_line


def render_attributions(
    prompts: Sequence[PromptDrops], feature: str, model: str, prefix: str = "", suffix: str = ""
) -> str:
    """A page about prompts, which needs nothing else: no network, no scripts, no fonts."""
    return template("attribution_page.html").render(
        feature=one_line(feature),
        model=one_line(model),
        prefix=prefix,
        suffix=suffix,
        attributions=entries(dict(enumerate(prompts))),
        alternatives=alternatives(prompts),
    )


def write_attributions(
    prompts: Sequence[PromptDrops],
    path: str | os.PathLike[str],
    feature: str,
    model: str,
    prefix: str = "",
    suffix: str = "",
) -> None:
    """Writes `render_attributions(...)` to a UTF-8 file. Raises OSError where the file cannot be written."""
    page = render_attributions(prompts, feature, model, prefix, suffix)
    Path(path).write_text(page, encoding="utf-8", newline="\n")


def entries(attributions: Mapping[int, PromptDrops]) -> list[dict[str, object]]:
    """What the template needs of prompts, by their rows; ids of elements are made of row and position."""
    return [
        {
            "row": row,
            "feature": formatted([prompt.feature])[0],
            "cross_entropy": _nats(prompt.cross_entropy),
            "alternatives": prompt.alternatives,
            "tokens": [
                {
                    "id": f"drops-{row}-{position}",
                    "text": token.text,
                    "shade": f"{mark.shade:.3f}",
                    "bar": f"{mark.bar:.3f}",
                    "to_worst": mark.to_worst,
                    "to_best": mark.to_best,
                    **_replacements(token),
                }
                for position, (token, mark) in enumerate(zip(prompt.tokens, marks(prompt), strict=True))
            ],
        }
        for row, prompt in sorted(attributions.items())
    ]


def alternatives(prompts: Iterable[PromptDrops]) -> str:
    """How many replacements were tried: "32", or "5 to 32" where prompts differ."""
    counts = sorted({prompt.alternatives for prompt in prompts})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "0"


def _nats(cross_entropy: float | None) -> str:
    return "" if cross_entropy is None else format_cross_entropy(np.array([cross_entropy]))[0]


def _replacements(token: TokenDrops) -> dict[str, list[dict[str, str]]]:
    listed = (*token.worst, *token.best)
    # Together, so that all have one number of decimals.
    values = formatted([one.value for one in listed])
    shown = [{"text": one.text, "value": value} for one, value in zip(listed, values, strict=True)]
    return {"worst": shown[: len(token.worst)], "best": shown[len(token.worst) :]}
