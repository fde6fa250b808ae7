"""Figures 5 and 6 of the paper: how far random directions of the residual stream are reached, layer by layer.

python scripts/paper_residual.py --model=smollm2-135m --corpus=books/ --output=dreams/paper_residual

dreams random directions at seven layers, scans a corpus for all of them in one pass, and takes both against 1,024
random prompts, as z-scores. It writes residual_layers.png (the largest at each layer, of dreams, of dataset examples as
isolated prompts, and of the random prompts), residual_directions.png (one layer, against cross-entropy), both as PDF
too, residual.csv, which scripts/figures.py reads, and residual.md. Without --corpus there are no dataset examples.
--size=paper --model=EleutherAI/pythia-12b-deduped is the paper's experiment: 50 directions a layer, 100 million tokens.
The same command goes on after any interruption.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from absl import flags
from paper import given
from paper.depth import same_depth
from paper.directions import (
    DATASET,
    DREAMS,
    KINDS,
    MOST_VECTORS,
    RANDOM,
    Direction,
    Found,
    by_layer,
    dataset_of,
    dream_of,
    layers_table,
    prompts_of,
    table_of,
)
from paper.frontiers import about_published
from paper.runs import results_of, told
from paper.tables import head
from texts.paper import facts, is_papers

import epo_jax
from epo_jax.config import EPOConfig
from epo_jax.corpus import Scan, ScanConfig, ScanProgress, load_scan, others_of, read_documents, rescore, scan
from epo_jax.corpus.against import FLUENT_BELOW
from epo_jax.corpus.sources import list_files
from epo_jax.dream import search_flags
from epo_jax.errors import EpoError
from epo_jax.features import Feature, parse_feature
from epo_jax.parallel import processes
from epo_jax.report.directions_figure import directions_figure
from epo_jax.report.layers_figure import layers_figure
from epo_jax.report.line import Line
from epo_jax.scoring.random_scores import random_prompt_scores
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import PROMPTS, scale_of
from epo_jax.scoring.scale import RANDOM as OF_RANDOM
from epo_jax.scoring.template import Template, frozen_tokens

PROGRAM = "paper_residual"
SMALL = EPOConfig(iterations=20, children=8)
SMALL_VECTORS, SMALL_TOKENS = 2, 60_000
CONTEXT = 256
SCAN = "scan"

LAYERS = flags.DEFINE_list("layers", [], "layers; by default those that lie as deep as the paper's")
VECTORS = flags.DEFINE_integer("vectors", None, f"directions of a layer; by default {SMALL_VECTORS}, or the paper's 50")
CORPUS = flags.DEFINE_multi_string(
    "corpus", [], "file or folder of .txt, .md, .rst, .jsonl, .parquet (and .gz), or a dataset's id; may be repeated"
)
COLUMN = flags.DEFINE_string("column", "text", "field of JSONL and column of Parquet that holds the text")
TOKENS = flags.DEFINE_integer(
    "tokens", None, f"tokens of the corpus that are scanned; by default {SMALL_TOKENS:,}, or the paper's 100 million"
)


def main() -> None:
    """Dream, scan, draw, and write."""
    _check()
    asked = given.load(PROGRAM, SMALL)
    if CORPUS.value and asked.template.suffix:
        raise EpoError(
            "--suffix: nothing stands behind dataset examples; leave --corpus out, or what is behind the prompt"
        )
    small, published = given.SIZE.value == given.SMALL, facts()["residual"]
    layers = _layers(asked.lm) or list(
        dict.fromkeys(same_depth(layer, asked.lm.config.layers) for layer in published["layers"])
    )
    vectors = VECTORS.value or (SMALL_VECTORS if small else published["vectors_per_layer"])
    directions = [Direction(layer, vector) for layer in layers for vector in range(vectors)]
    seeds, runs = given.seeds([0]), asked.output / given.RUNS
    # Penalties mean the same for all directions, unless another scale is asked for.
    scale = {} if flags.FLAGS["scale"].present else {"scale": OF_RANDOM}
    asked.dream([one.feature for one in directions], seeds, runs, **scale)
    features = [parse_feature(one.feature, asked.lm) for one in directions]
    values, nats = random_prompt_scores(asked.lm, features, asked.config.length, asked.template)
    scales = [scale_of(own, one.feature) for own, one in zip(values, directions, strict=True)]
    if CORPUS.value:
        _scan(asked, features)
    if not processes.is_writer():
        return
    found = [
        prompts_of(one, RANDOM, scale, own, nats) for one, scale, own in zip(directions, scales, values, strict=True)
    ]
    by_feature = {one.feature: (one, scale) for one, scale in zip(directions, scales, strict=True)}
    for feature, results in itertools.groupby(results_of(runs), lambda result: result.run.feature):
        found.append(dream_of(*by_feature[feature], list(results)))
    scanned = load_scan(asked.output / SCAN) if CORPUS.value else None
    if scanned is not None:
        found += [dataset_of(one, scale, scanned) for one, scale in zip(directions, scales, strict=True)]
    _write(asked, layers, found, told(seeds, [runs]), scanned)


def _check() -> None:
    if VECTORS.value is not None and not 1 <= VECTORS.value <= MOST_VECTORS:
        raise EpoError(f"--vectors={VECTORS.value}: must be 1 to {MOST_VECTORS}")
    if TOKENS.value is not None and TOKENS.value < 1:
        raise EpoError(f"--tokens={TOKENS.value}: must be at least 1")
    if search_flags.READ.value != LAST:
        raise EpoError(f"--read={search_flags.READ.value}: directions are read at the last token here; leave it out")
    if search_flags.FLUENCY_MODEL.value is not None:
        raise EpoError(
            "--fluency_model: random prompts and dataset examples are scored by the model itself; leave it out"
        )
    for source in CORPUS.value:
        list_files(source)


def _layers(lm: epo_jax.LanguageModel) -> list[int]:
    """The layers that were given, each once, ascending."""
    for text in LAYERS.value:
        if not text.isascii() or not text.isdigit() or int(text) >= lm.config.layers:
            raise EpoError(f"--layers={text}: must be layers of the model, 0 to {lm.config.layers - 1}")
    return sorted({int(text) for text in LAYERS.value})


def _scan(asked: given.Experiment, features: Sequence[Feature]) -> None:
    """Scan the corpus for all directions together, or go on, and score the hits as isolated prompts."""
    lm, template = asked.lm, asked.template
    room = lm.config.max_positions - len(frozen_tokens(lm, template).prefix)
    small = given.SIZE.value == given.SMALL
    tokens = TOKENS.value or (SMALL_TOKENS if small else facts()["residual"]["dataset_tokens"])
    config = ScanConfig(asked.config.length, min(CONTEXT, room), tokens=tokens)
    groups, folder = others_of(features), asked.output / SCAN

    def progress(at: ScanProgress) -> None:
        asked.console.print(f"{at.tokens:,} of {tokens:,} tokens, {at.rate:,.0f} tokens/s", style="dim")

    documents = itertools.chain.from_iterable(read_documents(source, COLUMN.value) for source in CORPUS.value)
    before = Template(template.prefix, "", template.bos)
    corpus = {"corpus": list(CORPUS.value), "column": COLUMN.value}
    scan(lm, documents, groups, folder, config, template=before, told=corpus, callback=progress)

    def is_to_be_scored() -> bool:
        found = load_scan(folder)
        return any(found.examples(one.name).isolated_activation is None for one in features)

    if processes.on_writer(is_to_be_scored, "isolated"):
        rescore(lm, groups, folder)


def _write(
    asked: given.Experiment, layers: Sequence[int], found: Sequence[Found], runs: str, scanned: Scan | None
) -> None:
    table, residual, same = table_of(found), facts()["residual"], is_papers(asked.lm)
    means = dict(zip(residual["layers"], residual["mean_max_z_read_off_figure_6"], strict=True)) if same else {}
    middle = layers[len(layers) // 2]
    asked.write("residual.csv", table.to_csv(index=False, float_format="%.6g"))
    curve = (list(means), list(means.values())) if means else None
    title = f"Residual directions of {asked.lm.source}"
    asked.draw("residual_layers", layers_figure(layers, by_layer(table, layers), title, published=curve))
    at_middle = {
        kind: [one.prompts for one in found if one.kind == kind and one.direction.layer == middle] for kind in KINDS
    }
    pooled = Line(
        "random prompts",
        np.concatenate([line.cross_entropy for line in at_middle[RANDOM]]),
        np.concatenate([line.feature for line in at_middle[RANDOM]]),
    )
    figure = directions_figure(at_middle[DREAMS], at_middle[DATASET], pooled, f"Layer {middle} of {asked.lm.source}")
    asked.draw("residual_directions", figure)
    vectors = int(table["vector"].max()) + 1
    corpus = (
        f"Dataset: the {scanned.settings['keep']} strongest hits in {scanned.tokens:,} tokens of "
        f"{', '.join(scanned.settings['corpus'])}, each as the isolated {asked.config.length} tokens that end at it. "
        if scanned is not None
        else "No corpus was given. "
    )
    page = [
        head("Residual directions (figures 5 and 6)", given.command(PROGRAM), asked.lm, asked.config, runs),
        f"{vectors} random direction{'s' if vectors > 1 else ''} of the stream before each layer. z-scores are against "
        f"mean and standard deviation of {PROMPTS:,} random prompts. {corpus}The largest of each direction, mean ± "
        f"standard deviation over directions; < {FLUENT_BELOW:g}: among prompts below so many nats/token, empty where "
        f"there are none. {about_published(asked.lm, 'The published z-scores')}\n",
        layers_table(table, layers, means),
        "![z-score against layer](residual_layers.png)\n",
        f"![z-score against cross-entropy at layer {middle}](residual_directions.png)\n",
    ]
    asked.write("residual.md", "\n".join(page))


if __name__ == "__main__":
    given.start(main, PROGRAM)
