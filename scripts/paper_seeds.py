"""Figure 2 of the paper: how far the seeds of one neuron differ, and what they reach together.

python scripts/paper_seeds.py --model=smollm2-135m --output=dreams/paper_seeds

dreams one neuron with several seeds and writes seeds.png and seeds.pdf, their frontiers, and seeds.md: what the seeds
reach at most, over all and below 5 nats/token, and the frontier of all their prompts; seeds.csv holds every frontier.
--size=paper --model=EleutherAI/pythia-12b-deduped is the paper's experiment, 60 seeds of L10.N5, beside what was
published. The same command goes on after any interruption.
"""

from __future__ import annotations

from absl import flags
from paper import given
from paper.runs import results_of, told
from paper.seeds import FEATURE, LIMIT, SEEDS, published_sentence, seed_of, seeds_csv, seeds_table
from paper.tables import head, prompts
from texts.paper import published_of

from epo_jax.config import EPOConfig
from epo_jax.dream.frontier import merged
from epo_jax.features import parse_feature
from epo_jax.parallel import processes
from epo_jax.report.seeds_figure import seeds_figure, seeds_sentence

PROGRAM = "paper_seeds"
SMALL = EPOConfig(iterations=20, children=8)
SMALL_FEATURE = "L7.N690"
SMALL_SEEDS = 12
FEATURE_FLAG = flags.DEFINE_string(
    "feature", None, f"what is dreamed; by default {SMALL_FEATURE}, at the paper's size {FEATURE}"
)


def main() -> None:
    """Dream, draw, and write."""
    asked = given.load(PROGRAM, SMALL)
    small = given.SIZE.value == given.SMALL
    name = FEATURE_FLAG.value or (SMALL_FEATURE if small else FEATURE)
    parse_feature(name, asked.lm)
    seeds, folder = given.seeds(range(SMALL_SEEDS if small else SEEDS)), asked.output / given.RUNS
    asked.dream([name], seeds, folder)
    if not processes.is_writer():
        return
    found = [seed_of(result) for result in results_of(folder)]
    scored = [one.scored for one in found]
    together = merged([one.frontier for one in found])
    page = [
        head("Seeds of one feature (figure 2)", given.command(PROGRAM), asked.lm, asked.config, told(seeds, [folder])),
        f"{seeds_sentence(scored, name)} {seeds_sentence(scored, name, LIMIT)} {published_sentence(asked.lm, name)}\n",
        "![The frontier of each seed, and of all together](seeds.png)\n",
        f"## The frontier of all seeds together\n\n{prompts('value', together, published_of(asked.lm, name))}",
        f"## Seed by seed\n\n{seeds_table(found)}",
    ]
    asked.draw("seeds", seeds_figure([one.line for one in found], f"{name} in {asked.lm.source}"))
    asked.write("seeds.md", "\n".join(page))
    asked.write("seeds.csv", seeds_csv(found))
    asked.console.print(page[1], soft_wrap=True, markup=False)


if __name__ == "__main__":
    given.start(main, PROGRAM)
