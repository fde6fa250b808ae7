"""The frontier as a table in the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from epo_jax.report import data as numbers
from epo_jax.report.data import ReportData
from epo_jax.report.tokens import BOUNDARY, one_line, visible


def console_table(data: ReportData) -> Table:
    """The frontier: feature, cross-entropy (nats/token), perplexity, and the prompt with its token boundaries.

    The best prompt is bold, and so is the best fluent one.
    """
    best = {numbers.best_overall(data), numbers.best_fluent(data)}
    table = Table(title=Text(f"{one_line(data.feature)} in {one_line(data.model)}"), title_justify="left")
    more = numbers.format_columns(data)
    for name in ("feature", *more, "nats/token", "perplexity"):
        table.add_column(name, justify="right", no_wrap=True)
    # Folding keeps every character: wrapping at words would drop the spaces that it breaks at.
    table.add_column("prompt", overflow="fold")
    columns = zip(
        numbers.format_feature(data.frontier_feature),
        numbers.format_cross_entropy(data.frontier_cross_entropy),
        numbers.format_perplexity(data.frontier_cross_entropy),
        data.frontier_tokens,
        strict=True,
    )
    for index, (feature, cross_entropy, perplexity, tokens) in enumerate(columns):
        others = [texts[index] for texts in more.values()]
        style = "bold" if index in best else ""
        table.add_row(feature, *others, cross_entropy, perplexity, _prompt(tokens), style=style)
    return table


def _prompt(tokens: tuple[str, ...]) -> Text:
    # A Text is never parsed as markup, so "[bold]" stays a token.
    return Text(BOUNDARY, style="dim").join(Text(visible(token), style="not dim") for token in tokens)
