"""The Markdown of a report."""

from __future__ import annotations

from typing import Any, cast

from benchmarking.results import (
    CEILING,
    DREAMY,
    GRADIENTS,
    ITERATION,
    NANOGCG,
    PLAIN,
    SUFFIX,
    Line,
    Report,
    Section,
    Spread,
)

# A dream of the paper.
ITERATIONS = 300
MIB = 2**20
HEAD = (
    "| | seconds, median (least to greatest) | candidates/s | operations | per second | of the ceiling | compile, s | "
    "memory, MiB |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)
PARTS = (CEILING, PLAIN, SUFFIX, GRADIENTS, ITERATION, DREAMY, NANOGCG)


def markdown(report: Report) -> str:
    """Everything, as a document."""
    parts = [_introduction(report)]
    for section in report.sections:
        parts += [f"## {section.feature}", _table(section), _sentences(section), _dreams(section)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(report: Report) -> str:
    settings, environment = report.settings, report.environment
    config, model = cast(dict[str, object], settings["config"]), cast(dict[str, object], environment["model"])
    frozen = "".join(f", {name} {settings[name]!r}" for name in ("prefix", "suffix") if settings[name])
    peak = environment["device_peak_bytes"]
    lines = [
        f"# {settings['model']}, {settings['dtype']}, on {environment['device']}",
        f"P={config['population']}, children={config['children']}, T={config['length']}, K={config['top_k']}{frozen}; "
        f"medians of {settings['repeats']} rounds in which everything took turns, on {environment['cores']} cores that "
        f"had a load of {environment['load_before']:.2f} before. "
        f"{model['layers']} layers of width {model['width']}, {model['vocab_size']:,} tokens, weights of "
        f"{_mib(cast(int, environment['weights_bytes']))} MiB"
        + (f"; at most {_mib(cast(int, peak))} MiB of the device were in use by epo_jax." if peak else ".")
        + " Memory is what a program takes beside its inputs, and the weights are inputs.",
        "Versions: " + ", ".join(f"{name} {environment[name]}" for name in ("epo-jax", "jax", "flax", "python")) + ".",
    ]
    return "\n\n".join(lines)


def _table(section: Section) -> str:
    found = [line for line in map(section.line, PARTS) if line is not None]
    return "\n".join([HEAD, *(_row(section, line) for line in found)])


def _row(section: Section, line: Line) -> str:
    share, rate = section.share(line), line.rate
    cells = [
        line.name,
        _spread(line.seconds),
        f"{line.candidates / line.seconds.median:,.1f}" if line.candidates else "",
        _scaled(line.operations, "FLOP"),
        _scaled(rate.median if rate else None, "FLOP/s"),
        f"{share:.0%}" if share is not None and line.name != CEILING else "",
        f"{line.compile_seconds:.1f}" if line.compile_seconds is not None else "",
        _mib(line.memory) if line.memory is not None else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _sentences(section: Section) -> str:
    """What follows from the table."""
    iteration, ceiling = section.line(ITERATION), section.ceiling.rate
    said = []
    for mine, theirs in ((SUFFIX, PLAIN), (ITERATION, DREAMY), (ITERATION, NANOGCG)):
        fast, slow = section.line(mine), section.line(theirs)
        if fast and slow:
            said.append(f"{mine}: {_spread(fast.times_as_fast_as(slow))} times as fast as {theirs}")
    if iteration and ceiling:
        seconds = section.floor / ceiling.median
        blocks, head = section.expected_rows
        said.append(
            f"floor of an iteration: {_scaled(section.floor, 'FLOP')} ({blocks:g} rows of a candidate are expected "
            f"through the blocks, {head:g} through the head), {_figures(seconds)} s at the ceiling; the iteration "
            f"takes {iteration.seconds.median / seconds:.2f} times that"
        )
    said += [
        f"{pair}, on the same prompts: cross-entropy within {found.cross_entropy:.2g} nats, feature within "
        f"{found.feature:.2g} of the greatest"
        for pair, found in section.differences.items()
    ]
    said += [f"{name}: {_peer(ready)}" for name, ready in section.peers.items()]
    return "\n".join(f"- {sentence}" for sentence in said)


def _dreams(section: Section) -> str:
    """Numbers of dreams in one program; nothing where none were asked for."""
    lines = [line for line in section.lines if line.dreams]
    if all(line.name in (ITERATION, DREAMY) for line in lines):
        return ""
    rows = [
        "| | seconds per iteration | candidates/s | of the ceiling | dreams per hour "
        f"({ITERATIONS} iterations) | times dreamy's | compile, s | memory, MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    dreamy = section.line(DREAMY)
    for line in lines:
        share, hourly = section.share(line), _hourly(line)
        cells = [
            line.name,
            _spread(line.seconds),
            f"{line.candidates / line.seconds.median:,.1f}",
            f"{share:.0%}" if share is not None else "",
            f"{hourly:,.1f}",
            f"{hourly / _hourly(dreamy):.1f}" if dreamy else "",
            f"{line.compile_seconds:.1f}" if line.compile_seconds is not None else "",
            _mib(line.memory) if line.memory is not None else "",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _hourly(line: Line) -> float:
    return line.dreams * 3600 / (ITERATIONS * line.seconds.median)


def _spread(spread: Spread) -> str:
    return f"{_figures(spread.median)} ({_figures(spread.least)} to {_figures(spread.greatest)})"


def _figures(value: float) -> str:
    """Three of them."""
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:,.0f}"


def _scaled(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    power = next((p for p in (12, 9, 6) if value >= 10**p), 0)
    return f"{_figures(value / 10**power)} {({12: 'T', 9: 'G', 6: 'M', 0: ''})[power]}{unit}"


def _mib(count: int) -> str:
    return f"{count / MIB:,.0f}"


def _peer(ready: dict[str, Any]) -> str:
    threads = f" with {ready['threads']} threads" if ready["device"] == "cpu" else ""
    said = (
        f"on {ready['device']}{threads}, PyTorch {ready['torch']}, transformers {ready['transformers']}, "
        f"{ready['attention']} attention"
    )
    if "batch" not in ready:
        return said
    tried = ", ".join(f"{_figures(seconds)} s with {batch}" for batch, seconds in ready["tried"].items())
    return f"{said}; batches of {ready['batch']}, having tried {tried}"
