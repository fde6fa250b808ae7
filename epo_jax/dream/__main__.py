"""Dream a feature of a language model.

python -m epo_jax.dream --model=smollm2-135m --feature=L7.N690

prints the frontier of prompts between the feature and fluency, and the folder that holds the report.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import sys
from typing import Any

import jax
from absl import app, flags, logging
from rich.console import Console

from epo_jax.config import PRESETS, EPOConfig
from epo_jax.dream.live import Live
from epo_jax.dream.loop import dream
from epo_jax.dream.result import check_folder
from epo_jax.errors import EpoError
from epo_jax.features import parse_feature
from epo_jax.models import load_model
from epo_jax.models.config import DTYPES
from epo_jax.report import console_table
from epo_jax.scoring.template import BOS, Template

DEFAULT_FEATURE = "L7.N690"
INTERRUPTED = 130

_SEARCH_HELP = {
    "iterations": "steps after the initial prompts",
    "population": "slots, one per fluency penalty (P)",
    "children": "new prompts per slot in an iteration",
    "length": "optimized tokens (T)",
    "top_k": "tokens kept per position by gradient (K)",
    "lambda_min": "least fluency penalty",
    "lambda_max": "greatest fluency penalty",
    "restart_every": "iterations between restarts; 0 means never",
    "restart_lambda_min": "least penalty that a restart draws",
    "restart_lambda_max": "greatest penalty that a restart draws",
}

MODEL = flags.DEFINE_string(
    "model", "smollm2-135m", "embedded model's name, .gguf file, or folder in Hugging Face format"
)
FEATURE = flags.DEFINE_string("feature", DEFAULT_FEATURE, 'what to maximize: "L10.N5" or "logit: dog"')
PRESET = flags.DEFINE_enum(
    "preset", None, list(PRESETS), "settings; by default quick on a CPU, paper on an accelerator"
)
for _field in dataclasses.fields(EPOConfig):
    if _field.name in _SEARCH_HELP:
        _define = flags.DEFINE_integer if isinstance(_field.default, int) else flags.DEFINE_float
        _define(_field.name, None, f"{_SEARCH_HELP[_field.name]}; by default the preset's")
PREFIX = flags.DEFINE_string("prefix", "", "frozen text before the prompt")
SUFFIX = flags.DEFINE_string("suffix", "", "frozen text after the prompt")
BOS_FLAG = flags.DEFINE_enum("bos", "auto", list(BOS), "whether a BOS stands first; auto does as the tokenizer does")
INIT_TEXT = flags.DEFINE_string("init_text", None, "what every slot starts from, --length tokens; by default random")
SEED = flags.DEFINE_integer("seed", 0, "of all randomness")
DTYPE = flags.DEFINE_enum("dtype", None, list(DTYPES), "by default float32 on a CPU, bfloat16 on an accelerator")
OUTPUT = flags.DEFINE_string("output", None, "run folder; by default a new one under dreams/")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "whether the run folder may hold files already")


def main(_: list[str]) -> None:
    """Translate flags, dream, and print."""
    # JAX tells the absl logger of every kind of device that is not there.
    logging.set_verbosity(logging.WARNING)
    console = Console(highlight=False)
    try:
        config = _config(console)
        output = OUTPUT.value or _default_output(FEATURE.value)
        check_folder(output, OVERWRITE.value)
        with console.status(f"loading {MODEL.value}"):
            lm = load_model(MODEL.value, DTYPE.value)
            feature = parse_feature(FEATURE.value, lm)
        template = Template(PREFIX.value, SUFFIX.value, BOS_FLAG.value)
        with Live(console) as live:
            result = dream(
                lm,
                feature,
                config,
                seed=SEED.value,
                template=template,
                init_text=INIT_TEXT.value,
                output=output,
                overwrite=OVERWRITE.value,
                callback=live.update,
            )
    except EpoError as error:
        sys.exit(_refuse(str(error)))
    except KeyboardInterrupt:
        print("epo_jax: interrupted before anything was scored", file=sys.stderr)
        sys.exit(INTERRUPTED)
    console.print(console_table(result.report_data()))
    console.print(f"{len(result.history)} prompts scored in {result.run.seconds:.0f} s; report: {output}/report.html")
    if result.run.stopped:
        print(f"epo_jax: {result.run.stopped}; everything found so far is in {output}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _config(console: Console) -> EPOConfig:
    preset = PRESET.value
    if preset is None:
        preset = "quick" if jax.default_backend() == "cpu" else "paper"
        console.print(
            f"preset {preset}: the default on {'a CPU' if preset == 'quick' else 'an accelerator'}; "
            f"--preset={'paper' if preset == 'quick' else 'quick'} for "
            f"{'the paper settings' if preset == 'quick' else 'a short run'}"
        )
    given: dict[str, Any] = {name: flags.FLAGS[name].value for name in _SEARCH_HELP}
    given = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(PRESETS[preset], **given)


def _default_output(feature: str) -> str:
    name = re.sub(r"[^A-Za-z0-9.]+", "-", feature).strip("-.") or "feature"
    return os.path.join("dreams", f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{name}")


def _parse_flags(arguments: list[str]) -> list[str]:
    try:
        rest: list[str] = flags.FLAGS(arguments)
        if len(rest) > 1:
            raise flags.Error(f"{rest[1]}: not a flag; flags are given as --name=value")
    except flags.Error as error:
        sys.exit(_refuse(f"{error}; --help lists the flags"))
    return rest


def _refuse(message: str) -> int:
    print(f"epo_jax: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
