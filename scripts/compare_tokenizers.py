"""Where the tokenizer that a GGUF file describes parts from transformers' conversion of the same file.

The conversion does not read tokenizer.ggml.pre, so it cuts every byte-level vocabulary by GPT-2's rule. The list is
taken from seeded strings of many kinds (tests/models/varied_strings.py) on the embedded SmolLM2. Needs PyTorch, with
which transformers reads GGUF files.

    python scripts/compare_tokenizers.py --output=docs/tokenizer_differences.md

prints

    177 of 2000 strings differ, 0 of them after the conversion's pre-tokenizer is put in; docs/tokenizer_differences.md
"""

from __future__ import annotations

import copy
import runpy
from pathlib import Path

from absl import flags
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from epo_jax import command_line
from epo_jax.models.embedded import embedded_file
from epo_jax.models.gguf_file import open_gguf
from epo_jax.models.tokenizers import token_texts, tokenizer_from_gguf

STRINGS = Path(__file__).parents[1] / "tests" / "models" / "varied_strings.py"

OUTPUT = flags.DEFINE_string("output", "docs/tokenizer_differences.md", "Markdown file to write.")
COUNT = flags.DEFINE_integer("count", 2000, "Strings to compare.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the strings.")
SHOWN = flags.DEFINE_integer("shown", 60, "Differing strings to show, the first ones.", lower_bound=0)

HEAD = """# Where the embedded tokenizer and transformers' conversion differ

Written by `python scripts/compare_tokenizers.py`; the tests check the counts.

`{file}` has `tokenizer.ggml.pre` = `{pre}`: every numeral
(`\\p{{N}}`) is cut off on its own, then GPT-2's rule cuts the rest. transformers' GGUF conversion does not read that
key and applies GPT-2's rule alone, which joins a space to the number after it and takes the last one of several
whitespace characters before a number apart from the others.

| | strings |
| --- | ---: |
| compared (seed {seed}) | {count} |
| equal ids | {equal} |
| different ids | {different} |
| different ids after the conversion's pre-tokenizer is put into ours | {after} |

With 0 in the last row, all differences are the pre-tokenizer's. Below are the first {shown} strings that differ, as
Python literals in ASCII. For each, `ours` and `transformers` give a few tokens from the first that differs, with bars
between them (`\\xe2` is a byte of a character that is not whole in the token), and then all ids.
"""


def main() -> None:
    """Compare and write."""
    path = embedded_file("smollm2-135m")
    metadata = open_gguf(path).metadata
    ours = tokenizer_from_gguf(metadata, str(path))
    theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    texts: list[str] = runpy.run_path(str(STRINGS))["varied_strings"](COUNT.value, SEED.value)
    expected = theirs(texts)["input_ids"]
    rows = [row for row in zip(texts, ours(texts)["input_ids"], expected, strict=True) if row[1] != row[2]]
    swapped = copy.deepcopy(ours)
    swapped.backend_tokenizer.pre_tokenizer = theirs.backend_tokenizer.pre_tokenizer
    after = sum(mine != other for mine, other in zip(swapped(texts)["input_ids"], expected, strict=True))
    head = HEAD.format(
        file=path.name,
        pre=metadata["tokenizer.ggml.pre"],
        seed=SEED.value,
        count=len(texts),
        equal=len(texts) - len(rows),
        different=len(rows),
        after=after,
        shown=min(SHOWN.value, len(rows)),
    )
    shown = [_entry(ours, number, *row) for number, row in enumerate(rows[: SHOWN.value], start=1)]
    Path(OUTPUT.value).write_text("\n".join([head, *shown]), encoding="ascii")
    print(
        f"{len(rows)} of {len(texts)} strings differ, {after} of them after the conversion's pre-tokenizer is put in; "
        f"{OUTPUT.value}"
    )


def _entry(tokenizer: PreTrainedTokenizerFast, number: int, text: str, ours: list[int], theirs: list[int]) -> str:
    pairs = zip(ours, theirs, strict=False)
    start = next((at for at, (mine, other) in enumerate(pairs) if mine != other), min(len(ours), len(theirs)))
    lines = [f"text          {text!a}"]
    for name, ids in (("ours", ours), ("transformers", theirs)):
        # A backslash is already the escape of a byte of half a character.
        texts = [ascii(part)[1:-1].replace("\\\\", "\\") for part in token_texts(tokenizer, ids[start : start + 6])]
        lines.append(f"{name:<13} {'|'.join(texts)}")
    for name, ids in (("ours", ours), ("transformers", theirs)):
        lines.append(f"{name:<13} {' '.join(map(str, ids))}")
    return f"### {number}\n\n" + "".join(f"    {line}\n" for line in lines)


if __name__ == "__main__":
    command_line.start(main, "compare_tokenizers")
