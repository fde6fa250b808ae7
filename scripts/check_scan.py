"""Compare a scan of a corpus with a brute-force look at every position in PyTorch.

python scripts/scan_corpus.py --corpus=corpus --neurons=0:30 --features="logit: online" --tokens=40000 --isolated=none --output=part
python scripts/check_scan.py --scan=part

runs each window of the scan through the PyTorch model, takes the largest activation of each neuron and logit in every
window, sorts them, and holds the scan's hits against that: how far activations differ, how many hits stand at the same
place, and how far the scan's percentiles are from the exact ones. A hit at another place counts as wrong unless the
activations there agree within --tolerance, as they do for equal ones. It exits with 1 if anything differs by more. PyTorch must be installed.
"""  # noqa: E501 (commands are one line each)

from __future__ import annotations

import importlib.util
import re
import sys
import time

import numpy as np
from absl import flags
from rich.console import Console

import epo_jax
from epo_jax import command_line
from epo_jax.corpus import load_scan
from epo_jax.corpus.examples import PERCENTILES
from epo_jax.corpus.hits import bin_edges
from epo_jax.errors import EpoError

SCAN = flags.DEFINE_string("scan", None, "folder of scripts/scan_corpus.py", required=True)
TOLERANCE = flags.DEFINE_float("tolerance", 1e-3, "what activations may differ by, as a share of the feature's largest")
SAMPLE = flags.DEFINE_integer("sample", 64, "features whose percentiles are compared", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "of the sample", lower_bound=0)


def main() -> None:
    """Look at every position, compare, print."""
    if importlib.util.find_spec("torch") is None:
        raise EpoError("PyTorch is not installed, and the scan is compared with it; run: pip install torch accelerate")
    # Imported here, since they need PyTorch.
    from checking.corpus import window_bests
    from checking.sources import torch_model

    scan = load_scan(SCAN.value)
    if not scan.done:
        raise EpoError(f"--scan={SCAN.value}: has not come to its end; the same command of scan_corpus.py goes on")
    lm = epo_jax.load_model(scan.settings["model"], dtype="float32", revision=scan.settings["commit"])
    neurons = [(name, match) for name in scan.features if (match := re.fullmatch(r"L(\d+)\.N(\d+)", name))]
    logits = [name for name in scan.features if name.startswith("logit:")]
    names = [name for name, _ in neurons] + logits
    if not names:
        raise EpoError(f"--scan={SCAN.value}: holds neither neurons nor logits, which are what is compared")
    tokens = [int(epo_jax.parse_feature(name, lm).token) for name in logits]  # type: ignore[attr-defined]
    sampled = sorted(np.random.default_rng(SEED.value).permutation(len(names))[: SAMPLE.value].tolist())
    began = time.monotonic()
    found = window_bests(
        torch_model(lm),
        list(scan.windows),
        scan.settings["prefix"],
        scan.settings["length"],
        [(int(match[1]), int(match[2])) for _, match in neurons],
        tokens,
        sampled,
    )
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{scan.tokens:,} tokens in {len(found.activation):,} windows, {len(names):,} of {len(scan.features):,} "
        f"features; PyTorch took {time.monotonic() - began:,.0f} s"
    )

    keep = min(scan.settings["keep"], len(found.activation))
    order = np.argsort(-found.activation, axis=0, kind="stable")[:keep]
    expected = np.take_along_axis(found.activation, order, axis=0)
    worst, same, wrong, total = 0.0, 0, [], 0
    for column, name in enumerate(names):
        window, position, activation = scan.hits(name)
        if len(activation) != keep:
            raise EpoError(f"--scan={SCAN.value}: holds {len(activation)} hits of {name}, and there are {keep}")
        scale = max(float(np.abs(expected[:, column]).max()), 1e-6)
        # At the scan's own places too: a hit elsewhere may only be one that is as strong.
        there = found.activation[window, column]
        differing = max(np.abs(activation - expected[:, column]).max(), np.abs(activation - there).max()) / scale
        worst = max(worst, float(differing))
        if not differing <= TOLERANCE.value:
            wrong.append(name)
        same += int(((window == order[:, column]) & (position == found.position[window, column])).sum())
        total += keep
    console.print(
        f"{same:,} of {total:,} hits at the same rank and place; activations within {worst:.1e} of the largest"
    )

    edges, off = bin_edges(), 0
    for place, column in enumerate(sampled):
        exact = np.percentile(found.sample[:, place], PERCENTILES, method="inverted_cdf")
        told = scan.examples(names[column]).percentiles
        # Both in bins: a percentile is known to the one that it lies in, whose edges count for it.
        bins = np.searchsorted(edges, [exact, [told[percentage] for percentage in PERCENTILES]])
        off = max(off, int(np.abs(bins[0] - bins[1]).max()))
    console.print(
        f"percentiles of {len(sampled)} features: at most {off} bins, eighths of octaves, from the exact ones"
    )
    failed = wrong or off > 1
    verdict = f"differs, first in {wrong[0]}" if wrong else "percentiles differ" if failed else "agrees with PyTorch"
    console.print(f"{SCAN.value}: {verdict}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    command_line.start(main, "check_scan")
