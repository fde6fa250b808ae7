"""Which tokens of a text a feature needs: each is replaced by 32 others, chosen by the gradient (the paper's figure 1).

python scripts/attribute.py --model=smollm2-135m --feature=L7.N690 --text="What the fox said" --output=attribution

prints for each token how much the feature falls with the worst and with the best replacement, and writes
attribution.html, attribution.png and attribution.json. --text may be repeated.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table
from rich.text import Text
from texts import given
from texts.sources import read_texts, writable

import epo_jax
from epo_jax import command_line
from epo_jax.dream.attributions import drops_of
from epo_jax.errors import EpoError
from epo_jax.report import PromptDrops, write_attribution_png, write_attributions
from epo_jax.report.tokens import visible
from epo_jax.scoring.template import frozen_tokens
from epo_jax.scoring.texts import text_ids

FEATURE = flags.DEFINE_string("feature", "L7.N690", 'what is read, such as "L10.N5" or "logit: dog"')
ALTERNATIVES = flags.DEFINE_integer("alternatives", 32, "tokens that are put in each token's place", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "attribution", "files to write, without their endings .html, .png and .json")
ENDINGS = (".html", ".png", ".json")


def main() -> None:
    """Attribute, print, write."""
    paths = {ending: writable(OUTPUT.value + ending) for ending in ENDINGS}
    texts = read_texts(given.TEXT.value, given.FILE.value)
    template = given.template()
    lm = given.load()
    feature = epo_jax.parse_feature(FEATURE.value, lm)
    frozen = frozen_tokens(lm, template)
    ids = [text_ids(lm, text, frozen) for text in texts]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    drops: list[PromptDrops] = []
    prompts = []
    for text, tokens in zip(texts, ids, strict=True):
        whole = np.array([[*frozen.prefix, *tokens, *frozen.suffix]], np.int32)
        found = epo_jax.attribute(lm, feature, whole, template, read=given.READ.value, alternatives=ALTERNATIVES.value)
        cross_entropy = float(epo_jax.score(lm, feature, whole, template, read=given.READ.value).cross_entropy[0])
        drops += drops_of(found, [cross_entropy])
        prompts += [{"text": text, "cross_entropy": cross_entropy, **one} for one in found.to_json()["prompts"]]
        _print(console, text, found, cross_entropy)
    told = {"model": lm.source, "feature": feature.name, "prefix": given.PREFIX.value, "suffix": given.SUFFIX.value}
    _write(paths, {**told, "prompts": prompts}, drops)
    console.print(f"written: {', '.join(map(str, paths.values()))}")


def _print(console: Console, text: str, found: epo_jax.Attribution, cross_entropy: float) -> None:
    title = f"{visible(text)}: feature {found.baseline[0]:.4f}, {cross_entropy:.2f} nats/token"
    names = ("token", "drop to worst", "the worst", "drop to best", "the best")
    table = Table(*names)
    for row in found.to_pandas().itertuples():
        table.add_row(
            Text(visible(str(row.token))),
            f"{row.drop_to_worst:.4f}",
            Text(visible(str(row.worst))),
            f"{row.drop_to_best:.4f}",
            Text(visible(str(row.best))),
        )
    console.print(Text(title), table, sep="\n", soft_wrap=True)


def _write(paths: dict[str, Path], values: dict[str, object], drops: list[PromptDrops]) -> None:
    told = {name: str(values[name]) for name in ("feature", "model")}
    template = {name: str(values[name]) for name in ("prefix", "suffix")}
    try:
        write_attributions(drops, paths[".html"], **told, **template)
        write_attribution_png(paths[".png"], drops, **told)
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        paths[".json"].write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise EpoError(f"--output={OUTPUT.value}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    command_line.start(main, "attribute")
