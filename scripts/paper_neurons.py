"""Tables 3 and 5 of the paper: prompts that six MLP neurons respond to.

python scripts/paper_neurons.py --model=smollm2-135m --output=dreams/paper_neurons

dreams the paper's six neurons, in a model of another depth those of the same number as deep in it, and writes
neurons.md, the frontiers' prompts with activation and perplexity, and neurons.csv.
--size=paper --model=EleutherAI/pythia-12b-deduped is the paper's experiment, where the published prompts stand among
ours. The same command goes on after any interruption.
"""

from __future__ import annotations

import re

from absl import flags
from paper import given
from paper.depth import same_depth
from paper.frontiers import about_published, frontiers_csv, merged
from paper.runs import results_of, told
from paper.tables import head, prompts
from texts.paper import facts, published_of

import epo_jax
from epo_jax.config import EPOConfig
from epo_jax.parallel import processes
from epo_jax.sweep import listed_features

PROGRAM = "paper_neurons"
SMALL = EPOConfig(iterations=40, children=8)
FEATURES = flags.DEFINE_multi_string("features", [], "what is dreamed instead of the six neurons; may be repeated")


def main() -> None:
    """Dream, and write the table."""
    listed = listed_features(FEATURES.value) if FEATURES.value else []
    asked = given.load(PROGRAM, SMALL)
    seeds, folder = given.seeds([0]), asked.output / given.RUNS
    features = listed or _neurons(asked.lm)
    asked.dream(features, seeds, folder)
    if not processes.is_writer():
        return
    frontiers = merged(results_of(folder))
    page = [head("MLP neurons (tables 3 and 5)", given.command(PROGRAM), asked.lm, asked.config, told(seeds, [folder]))]
    page.append(
        "The input of the down projection at the prompt's last token. "
        f"{about_published(asked.lm, 'The published prompts')}\n"
    )
    for feature, frontier in frontiers.items():
        page.append(f"## {feature}\n\n{prompts('activation', frontier, published_of(asked.lm, feature))}")
    asked.write("neurons.md", "\n".join(page))
    asked.write("neurons.csv", frontiers_csv(frontiers))


def _neurons(lm: epo_jax.LanguageModel) -> list[str]:
    found = []
    for name in dict.fromkeys(one["feature"] for one in facts()["neurons"]):
        layer, index = re.fullmatch(r"L(\d+)\.N(\d+)", name).groups()  # type: ignore[union-attr]
        found.append(f"L{same_depth(int(layer), lm.config.layers)}.N{index}")
    return found


if __name__ == "__main__":
    given.start(main, PROGRAM)
