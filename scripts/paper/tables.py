"""Tables of prompts in Markdown, the published ones among them where the model is the paper's."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from texts.paper import Published

import epo_jax
from epo_jax.dream.frontier import Frontier
from epo_jax.report.tokens import visible


def head(title: str, command: str, lm: epo_jax.LanguageModel, config: epo_jax.EPOConfig, runs: str) -> str:
    """What stands above all tables: the command that makes them, and what they are of.

    Args:
        title: of the page.
        command: the command line.
        lm: the model.
        config: settings of the search.
        runs: what was run, in words.
    """
    penalties = f"penalties {config.lambda_min:g} to {config.lambda_max:g}"
    restarts = f"restarts every {config.restart_every}" if config.restart_every else "no restarts"
    search = (
        f"{config.iterations} iterations, {config.population} slots with {config.children} children each, "
        f"{config.length} tokens, top {config.top_k}, {penalties}, {restarts}"
    )
    return f"# {title}\n\n```bash\n{command}\n```\n\n{lm.source} in {lm.config.dtype}: {search}. {runs}\n"


def prompts(value: str, frontier: Frontier, published: Sequence[Published]) -> str:
    """A frontier as a table, the most fluent prompts first, with the published ones among its rows.

    Args:
        value: what the feature's values are called.
        frontier: the prompts that were found.
        published: the paper's, of the same model and feature; empty for none.
    """
    rows = [
        (float(nats), float(feature), text, "here")
        for nats, feature, text in zip(frontier.cross_entropy, frontier.feature, frontier.text, strict=True)
    ]
    rows += [(one.cross_entropy, one.value, one.text, "the paper") for one in published]
    columns = [value, "perplexity", "prompt"]
    sides = ["---:", "---:", "---"]
    if published:
        columns, sides = [*columns, "found by"], [*sides, "---"]
    lines = [row_of(columns), row_of(sides)]
    for nats, feature, text, whose in sorted(rows):
        cells = [f"{feature:.2f}", perplexity(nats), code(text)]
        lines.append(row_of([*cells, whose] if published else cells))
    return "\n".join(lines) + "\n"


def row_of(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
    """A text as code in a cell of a table: on one line, spaces at its ends as dots, nothing taken for Markdown."""
    shown = visible(text).replace("|", "\\|")
    # A fence longer than any run of backticks inside; next to one, a space is no part of the code.
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}" if longest else f"`{shown}`"


def perplexity(cross_entropy: float) -> str:
    """The exponential of nats/token, as the paper prints it."""
    return f"{math.exp(cross_entropy):,.2f}" if cross_entropy < 700 else "∞"
