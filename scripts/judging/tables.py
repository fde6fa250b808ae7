"""The runs as Markdown: methods side by side, then feature by feature."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from epo_jax.config import BEST
from judging.bootstrap import Against, Estimate, against
from judging.features import kind_of
from judging.measures import BELOW_4, BELOW_6, DEAD_BELOW, WORST, Measures, rows_to_reach
from judging.methods import REFERENCE
from judging.prompts import prompts_table
from judging.records import Record

NONE = "none"


def page(title: str, told: str, records: Sequence[Record]) -> str:
    """The whole page.

    Args:
        title: the heading.
        told: what was run, in a sentence.
        records: of one model and size, in the order in which methods and features are shown.
    """
    methods = list(dict.fromkeys(record.run.method for record in records))
    parts = [f"# {title}\n", f"{told}\n", _EXPLAINED, methods_table(methods, records)]
    if any(record.run.method == REFERENCE for record in records) and len(methods) > 1:
        pairs = {method: (method, REFERENCE) for method in methods if method != REFERENCE}
        parts += ["## Against the paper's search\n", _PAIRED, pairs_table(pairs, records)]
    others = [method for method in methods if method not in {REFERENCE, BEST}]
    if BEST in methods and others:
        pairs = {other: (BEST, other) for other in others}
        parts += [f"## `{BEST}` against the others\n", _OTHERS, pairs_table(pairs, records)]
    parts += ["## Feature by feature\n", _BY_FEATURE, features_table(methods, records)]
    if {REFERENCE, BEST} <= set(methods):
        parts += ["## Prompts\n", _PROMPTS, prompts_table(BEST, records)]
    return "\n".join(parts)


_EXPLAINED = f"""z: standard deviations above 1,024 random prompts. Hypervolume: the integral over cross-entropies from
0 to {WORST:g} nats/token of the largest z of prompts up to each. Dead: runs whose best z is below {DEAD_BELOW:g}.
Repetition: share of a frontier prompt's tokens that stand in it before. Survival: share of frontier prompts whose text
is tokenized to the same tokens; surviving: the hypervolume of such prompts alone. Spread: standard deviation of a
feature's hypervolume over seeds by its mean, median over features with several seeds. Shares are means over runs, other
numbers medians; "{NONE}" where half of the runs have no such prompt, or no feature has several seeds.
"""
_PAIRED = """Pairs of the same feature and seed, with 95% intervals of a bootstrap over features, and seeds within them.
Ratio: hypervolume by the paper's, median; surviving: of prompts alone that are tokenized to the same tokens. Won: share
of features whose hypervolume, mean over seeds, is larger. Rows: rows until the run has the hypervolume that the paper's
run ends with, by those that the paper's run took to it, median ("never" where half of the runs do not get there).
"""
_OTHERS = f"""The same of `{BEST}` against each of the other methods and of its own variants, on what both ran: ratio
and rows are those of `{BEST}` by the other's, so that a ratio above 1 is what the other one lacks. It is infinite
where the other one has no prompt below {WORST:g} nats/token, and then there is nothing to reach: rows are 1.
"""
_BY_FEATURE = "Hypervolume, and in brackets the largest z below 6 nats/token: means over seeds of what there is.\n"


_PROMPTS = f"The prompt with the largest z below {BELOW_6:g} nats/token that each search found.\n"


def methods_table(methods: Iterable[str], records: Sequence[Record]) -> str:
    """A row for each method: measures over all of its runs."""
    heads = [
        "runs",
        "hypervolume",
        "surviving",
        "best z",
        f"z < {BELOW_6:g}",
        f"z < {BELOW_4:g}",
        "spread",
        "dead",
        "repetition",
        "survival",
    ]
    lines = [_row(["method", *heads, "prompts", "rows", "seconds"]), _row(["---", *["---:"] * (len(heads) + 3)])]
    for method in methods:
        runs = [record for record in records if record.run.method == method]
        own = [record.measures for record in runs]
        lines.append(
            _row(
                [
                    method,
                    str(len(own)),
                    _median(own, lambda one: one.hypervolume),
                    _median(own, lambda one: one.surviving),
                    _median(own, lambda one: one.best),
                    _median(own, lambda one: one.best_below_6),
                    _median(own, lambda one: one.best_below_4),
                    _spread(runs),
                    f"{statistics.fmean(one.dead for one in own):.0%}",
                    _mean_share([one.repetition for one in own]),
                    _mean_share([one.survival for one in own]),
                    _median(own, lambda one: one.prompts, 0),
                    _median(own, lambda one: one.rows, 0),
                    _median(own, lambda one: one.seconds, 0),
                ]
            )
        )
    return "\n".join(lines) + "\n"


def pairs_table(pairs: Mapping[str, tuple[str, str]], records: Sequence[Record]) -> str:
    """A row for each pair of a method and a reference: what the method has of the reference's.

    Args:
        pairs: by the name that a row has, method and reference.
        records: of all of them.
    """
    heads = ["pairs", "features", "ratio", "ratio, surviving", "won", "rows"]
    lines = [_row(["method", *heads]), _row(["---", *["---:"] * len(heads)])]
    for name, (method, reference) in pairs.items():
        found = held_against(method, records, reference)
        surviving = held_against(method, records, reference, surviving=True)
        cells = _paired(found, surviving) if found and surviving else ["0", "0", *[""] * 4]
        lines.append(_row([name, *cells]))
    return "\n".join(lines) + "\n"


def held_against(
    method: str, records: Sequence[Record], reference: str = REFERENCE, surviving: bool = False
) -> Against | None:
    """A method against another one, on the features and seeds that both have; None where there are none.

    Args:
        method: its name.
        records: of both.
        reference: the other's name.
        surviving: whether hypervolumes are of prompts alone whose text is tokenized to the same tokens.
    """
    by_method: dict[str, dict[tuple[str, int], Record]] = {method: {}, reference: {}}
    for record in records:
        if record.run.method in by_method:
            by_method[record.run.method][record.run.feature, record.run.seed] = record
    hypervolumes, rows = {}, {}
    for key, own in by_method[method].items():
        theirs = by_method[reference].get(key)
        if theirs is not None:
            target = float(theirs.reached[-1])
            taken = [rows_to_reach(target, one.rows, one.reached) for one in (own, theirs)]
            pair = own.measures, theirs.measures
            values = [one.surviving if surviving else one.hypervolume for one in pair]
            hypervolumes[key] = values[0], values[1]
            rows[key] = _or_never(taken[0]), _or_never(taken[1])
    return against(hypervolumes, rows)


def features_table(methods: Sequence[str], records: Sequence[Record]) -> str:
    """A row for each feature: hypervolume and best fluent prompt of each method."""
    lines = [_row(["feature", "kind", *methods]), _row(["---", "---", *["---:"] * len(methods)])]
    for feature in dict.fromkeys(record.run.feature for record in records):
        cells = []
        for method in methods:
            own = [one.measures for one in records if (one.run.feature, one.run.method) == (feature, method)]
            fluent = [one.best_below_6 for one in own if one.best_below_6 is not None]
            best = f"{statistics.fmean(fluent):.2f}" if fluent else NONE
            cells.append(f"{statistics.fmean(one.hypervolume for one in own):.2f} ({best})" if own else "")
        name = feature.replace("|", "\\|")
        lines.append(_row([f"`{name}`", kind_of(feature), *cells]))
    return "\n".join(lines) + "\n"


def _paired(found: Against, surviving: Against) -> list[str]:
    never = f"never{'' if math.isinf(found.rows.low) else f' ({found.rows.low:.2f} to never)'}"
    return [
        str(found.pairs),
        str(found.features),
        _interval(found.ratio, "{:.2f}", "infinite"),
        _interval(surviving.ratio, "{:.2f}", "infinite"),
        _interval(found.won, "{:.0%}"),
        never if math.isinf(found.rows.value) else _interval(found.rows, "{:.2f}"),
    ]


def _interval(estimate: Estimate, form: str, infinite: str = "never") -> str:
    value, low, high = (
        infinite if math.isinf(number) else form.format(number)
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"


def _median(own: Sequence[Measures], read: Callable[[Measures], float | None], digits: int = 2) -> str:
    values = [read(one) for one in own]
    middle = statistics.median(-math.inf if value is None else value for value in values)
    return f"{middle:,.{digits}f}" if math.isfinite(middle) else NONE


def _spread(runs: Iterable[Record]) -> str:
    """How far seeds of one feature lie apart, in hypervolumes' own size; where all found nothing they do not."""
    by_feature: dict[str, list[float]] = {}
    for one in runs:
        by_feature.setdefault(one.run.feature, []).append(one.measures.hypervolume)
    spreads = [
        statistics.stdev(values) / statistics.fmean(values) if any(values) else 0.0
        for values in by_feature.values()
        if len(values) > 1
    ]
    return f"{statistics.median(spreads):.0%}" if spreads else NONE


def _mean_share(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.0%}" if known else NONE


def _or_never(rows: float | None) -> float:
    return math.inf if rows is None else rows


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
