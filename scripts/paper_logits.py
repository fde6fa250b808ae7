"""Table 2 of the paper: prompts that a token follows, and that do not hold its text.

python scripts/paper_logits.py --model=smollm2-135m --output=dreams/paper_logits

dreams the logit of " dog", " AI" and " grand" above the largest other one, with the token's own text banned in any
case, and writes logits.md, the frontiers' prompts with logit difference and perplexity, and logits.csv.
--size=paper --model=EleutherAI/pythia-12b-deduped is the paper's experiment, where the published prompts stand among
ours. The same command goes on after any interruption.
"""

from __future__ import annotations

import dataclasses

from absl import flags
from paper import given
from paper.frontiers import about_published, frontiers_csv, merged
from paper.runs import results_of, told
from paper.tables import code, head, prompts
from texts.paper import facts, published_of

from epo_jax.config import EPOConfig
from epo_jax.dream.batch import safe_name
from epo_jax.dream.frontier import Frontier
from epo_jax.errors import EpoError
from epo_jax.features import parse_feature
from epo_jax.models.text_tokens import shown
from epo_jax.parallel import processes

PROGRAM = "paper_logits"
SMALL = EPOConfig(iterations=60, children=8)
TARGET = flags.DEFINE_multi_string(
    "target", [], "token whose logit is maximized, with its leading space; by default the paper's; may be repeated"
)


def main() -> None:
    """Dream, and write the table."""
    targets = list(dict.fromkeys(TARGET.value or (one["target"] for one in facts()["logits"])))
    for target in targets:
        if not target.strip():
            raise EpoError(f"--target={shown(target)}: has no text that prompts could be kept from holding")
    asked = given.load(PROGRAM, SMALL)
    seeds = given.seeds([0])
    features = {target: f"logit:{target}" for target in targets}
    for target, feature in features.items():
        try:
            parse_feature(feature, asked.lm)
        except EpoError as error:
            raise EpoError(str(error).replace(f"--feature={feature}", f"--target={target}")) from error
    constraints = asked.options["constraints"]
    folders = {target: asked.output / given.RUNS / safe_name(feature) for target, feature in features.items()}
    if len(set(folders.values())) < len(folders):
        raise EpoError(f"--target: {', '.join(map(shown, targets))} would share a folder; give them one at a time")
    for target, feature in features.items():
        banned = dataclasses.replace(constraints, ban_text=(*constraints.ban_text, target.strip()))
        asked.dream([feature], seeds, folders[target], constraints=banned)
    if not processes.is_writer():
        return
    frontiers: dict[str, Frontier] = {}
    for folder in folders.values():
        frontiers |= merged(results_of(folder))
    title = "Token logits with the token's text banned (table 2)"
    page = [head(title, given.command(PROGRAM), asked.lm, asked.config, told(seeds, list(folders.values())))]
    page.append(
        "The logit of a token minus the largest other one, after the prompt. No prompt holds the token's text, in any "
        f"case. {about_published(asked.lm, 'The published prompts')}\n"
    )
    for target, feature in features.items():
        table = prompts("logit difference", frontiers[feature], published_of(asked.lm, feature))
        page.append(f"## {code(target)}\n\n{table}")
    asked.write("logits.md", "\n".join(page))
    asked.write("logits.csv", frontiers_csv(frontiers))


if __name__ == "__main__":
    given.start(main, PROGRAM)
