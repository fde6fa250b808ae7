"""Dream features of a language model.

python -m epo_jax.dream --model=smollm2-135m --feature=L7.N690

prints the frontier of prompts between the feature and fluency, and the folder that holds the report. With several
features or seeds (--feature=L7.N0:64 --seed=0:3) all are dreamed together, and it prints a line for each.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import os
import sys
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from rich.console import Console

from epo_jax import command_line
from epo_jax.compilation_cache import use_compilation_cache
from epo_jax.config import PRESETS, EPOConfig
from epo_jax.constraints import RETOKENIZE as RETOKENIZATIONS
from epo_jax.constraints import Constraints
from epo_jax.dream.batch import folder_names, safe_name
from epo_jax.dream.given import parse_position, parse_token
from epo_jax.dream.live import Live
from epo_jax.dream.loop import NonFiniteError, dream
from epo_jax.dream.ranges import expand, expand_seeds
from epo_jax.dream.result import Result, check_folder
from epo_jax.dream.starts import INITS, RANDOM
from epo_jax.dream.table import dreams_table
from epo_jax.errors import EpoError
from epo_jax.features import parse_feature
from epo_jax.models import LanguageModel, load_model
from epo_jax.models.config import DTYPES
from epo_jax.models.text_tokens import shown
from epo_jax.parallel import make_mesh, replicated
from epo_jax.report import console_table
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import NONE, parse_scale
from epo_jax.scoring.template import BOS, PROMPT, Template, chat_template

DEFAULT_FEATURE = "L7.N690"
INTERRUPTED = 130
PROGRAM = "epo_jax"

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
    "model",
    "smollm2-135m",
    "embedded model's name, .gguf file, folder in Hugging Face format, random:CONFIG.json for random weights, or an id "
    "of the Hugging Face hub: owner/name or owner/name/file.gguf",
)
REVISION = flags.DEFINE_string(
    "revision", None, "branch, tag or commit of a model of the Hugging Face hub; by default main"
)
FEATURE = flags.DEFINE_multi_string(
    "feature",
    [DEFAULT_FEATURE],
    'what to maximize: "L10.N5", "logit: dog", "residual:L12:FILE.npy", "attention:L5.H3:0", "sae:PATH/ID:123", '
    '"probe:SITE:FILE.npz", "continuation: text", "sum:0.5*(L1.N2)-1*(logit: dog)", "package.module:function", any of '
    'these minimized with a leading "-", or all of a half-open range, "L10.N0:64" or "L0:12.N0:100"; may be repeated, '
    "with features of one kind",
)
PRESET = flags.DEFINE_enum(
    "preset", None, list(PRESETS), "settings; by default quick on a CPU, paper on an accelerator"
)
for _field in dataclasses.fields(EPOConfig):
    if _field.name in _SEARCH_HELP:
        _define = flags.DEFINE_integer if isinstance(_field.default, int) else flags.DEFINE_float
        _define(_field.name, None, f"{_SEARCH_HELP[_field.name]}; by default the preset's")
PREFIX = flags.DEFINE_string("prefix", "", "frozen text before the prompt")
SUFFIX = flags.DEFINE_string("suffix", "", "frozen text after the prompt")
TEMPLATE = flags.DEFINE_string("template", None, "both in one: frozen text with {prompt} where the prompt stands")
CHAT = flags.DEFINE_boolean(
    "chat", False, "whether the prompt, and the frozen text around it, are a user's message in the model's chat format"
)
SYSTEM = flags.DEFINE_string("system", None, "system message of --chat; by default the model's own, if it has one")
BOS_FLAG = flags.DEFINE_enum("bos", "auto", list(BOS), "whether a BOS stands first; auto does as the tokenizer does")
INIT = flags.DEFINE_enum(
    "init", RANDOM, list(INITS), "what slots start from: random tokens, or samples of the model after the frozen text"
)
INIT_TEXT = flags.DEFINE_string("init_text", None, "what every slot starts from instead, --length tokens")
INIT_FILE = flags.DEFINE_string(
    "init_file",
    None,
    'prompts to start from instead: a text with one a line, a .jsonl with {"text": ...} or {"ids": [...]} a line, or a '
    "run folder or its frontier.json or frontier.csv",
)
SEED = flags.DEFINE_multi_string(
    "seed",
    ["0"],
    "of all randomness, or a half-open range as in 0:60; may be repeated; each feature is dreamed with each",
)
READ = flags.DEFINE_string(
    "read", LAST, "where the feature is read: last, max (over the optimized tokens) or a position in the whole sequence"
)
BAN_TOKENS = flags.DEFINE_multi_string(
    "ban_tokens",
    [],
    "token that no prompt may hold, its id or its text (text:5 for a text that is a number); repeatable",
)
BAN_PATTERN = flags.DEFINE_string("ban_pattern", "", "regular expression; tokens in whose text it is found are banned")
ASCII_ONLY = flags.DEFINE_boolean("ascii_only", False, "whether tokens with other than ASCII characters are banned")
ALLOW_SPECIAL = flags.DEFINE_boolean("allow_special", False, "whether special and unused tokens may be used")
BAN_TEXT = flags.DEFINE_multi_string(
    "ban_text", [], "text that the prompt may hold nowhere, in any case; may be repeated"
)
RETOKENIZE = flags.DEFINE_enum(
    "retokenize",
    "off",
    list(RETOKENIZATIONS),
    "prompts whose text is not tokenized to the same tokens again: mark them in the results, or reject them",
)
FREEZE = flags.DEFINE_list("freeze", [], "positions of the prompt that keep their initial token, such as 0,3,-1")
SCALE = flags.DEFINE_string(
    "scale",
    NONE,
    "what the feature is taken against: none, random (standard deviations over 1,024 random prompts) or a number that "
    "it is divided by, so that fluency penalties mean the same for all features",
)
FLUENCY_MODEL = flags.DEFINE_string(
    "fluency_model", None, "model with the same tokens whose cross-entropy counts; by default the model itself"
)
ATTRIBUTION = flags.DEFINE_boolean(
    "attribution", True, "whether the report says which tokens of the frontier's prompts matter"
)
DTYPE = flags.DEFINE_enum("dtype", None, list(DTYPES), "by default float32 on a CPU, bfloat16 on an accelerator")
MESH = flags.DEFINE_string("mesh", None, "devices that share the work, such as data:8; by default one")
MICRO_BATCH = flags.DEFINE_integer(
    "micro_batch", None, "rows of tokens that evaluation runs as one block; by default as many as there is memory for"
)
OUTPUT = flags.DEFINE_string(
    "output", None, "run folder, of several dreams a folder of run folders; by default a new one under dreams/"
)
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "whether the run folder may hold files already")
PROFILE_DIR = flags.DEFINE_string("profile_dir", None, "folder for a trace of one iteration by jax.profiler")
CACHE_DIR = flags.DEFINE_string(
    "compilation_cache_dir",
    None,
    "where compiled programs are kept; by default the user's cache folder, and nowhere if it is empty",
)


def main() -> None:
    """Translate flags, dream, and print."""
    console = Console(highlight=False)
    results: list[Result] = []
    try:
        use_compilation_cache(CACHE_DIR.value)
        config = _config(console)
        # What ranges name twice is dreamed once.
        texts = list(dict.fromkeys(text for given in FEATURE.value for text in expand(given)))
        seeds = list(dict.fromkeys(seed for given in SEED.value for seed in expand_seeds(given)))
        output = OUTPUT.value or _default_output(FEATURE.value)
        check_folder(output, OVERWRITE.value)
        mesh = make_mesh(MESH.value) if MESH.value else None
        parse_scale(SCALE.value)
        constraints = _constraints()
        template = _frozen_text()
        lm = _load(console, MODEL.value, REVISION.value, mesh)
        fluency_model = None if FLUENCY_MODEL.value is None else _load(console, FLUENCY_MODEL.value, None, mesh)
        if CHAT.value:
            template = chat_template(lm, template.prefix + PROMPT + template.suffix, SYSTEM.value, template.bos)
        features = [parse_feature(text, lm) for text in texts]
        dreams = list(itertools.product(features, seeds))
        several = len(dreams) > 1
        if several:
            console.print(f"{len(dreams)} dreams in one program")
        with Live(console) as live:
            found = dream(
                lm,
                [feature for feature, _ in dreams] if several else features[0],
                config,
                seed=[seed for _, seed in dreams] if several else seeds[0],
                template=template,
                init=INIT.value,
                init_text=INIT_TEXT.value,
                init_file=INIT_FILE.value,
                read=READ.value,
                scale=SCALE.value,
                constraints=constraints,
                fluency_model=fluency_model,
                attribution=ATTRIBUTION.value,
                micro_batch=MICRO_BATCH.value,
                mesh=mesh,
                output=output,
                overwrite=OVERWRITE.value,
                callback=live.update,
                profile_dir=PROFILE_DIR.value,
            )
        results = found if isinstance(found, list) else [found]
    except NonFiniteError as error:
        if len(error.results) > 1:
            _report(console, error.results, output)
        raise
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted before anything was scored", file=sys.stderr)
        sys.exit(INTERRUPTED)
    _report(console, results, output)
    if results[0].run.stopped:
        print(f"{PROGRAM}: {results[0].run.stopped}; everything found so far is in {output}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _frozen_text() -> Template:
    if SYSTEM.value is not None and not CHAT.value:
        raise EpoError(f"--system={shown(SYSTEM.value)}: is a message of a chat; give --chat as well")
    if TEMPLATE.value is None:
        return Template(PREFIX.value, SUFFIX.value, BOS_FLAG.value)
    if PREFIX.value or SUFFIX.value:
        raise EpoError(f"--template={shown(TEMPLATE.value)}: holds prefix and suffix; leave out --prefix and --suffix")
    return Template.from_text(TEMPLATE.value, BOS_FLAG.value)


def _constraints() -> Constraints:
    return Constraints(
        ban_tokens=tuple(map(parse_token, BAN_TOKENS.value)),
        ban_pattern=BAN_PATTERN.value,
        ascii_only=ASCII_ONLY.value,
        ban_text=tuple(BAN_TEXT.value),
        retokenize=RETOKENIZE.value,
        freeze=tuple(map(parse_position, FREEZE.value)),
        allow_special=ALLOW_SPECIAL.value,
    )


def _load(console: Console, model: str, revision: str | None, mesh: Mesh | None) -> LanguageModel:
    status = console.status("")

    def progress(done: int, whole: int) -> None:
        # Not before: a download draws bars of its own.
        status.start()
        status.update(f"loading {model}: {done / whole:.0%}")

    try:
        lm = load_model(model, DTYPE.value, revision=revision, progress=progress)
    finally:
        status.stop()
    return lm if mesh is None else dataclasses.replace(lm, params=replicated(lm.params, mesh))


def _report(console: Console, results: list[Result], output: str) -> None:
    scored, seconds = sum(len(result.history) for result in results), results[0].run.seconds
    if len(results) == 1:
        console.print(console_table(results[0].report_data()))
        report = f"report: {output}/report.html"
    else:
        names = folder_names([(result.run.feature, result.run.seed) for result in results])
        console.print(dreams_table(results, names))
        report = f"reports: {output}/*/report.html"
    console.print(f"{scored} prompts scored in {seconds:.0f} s; {report}")
    if PROFILE_DIR.value:
        console.print(f"profile of one iteration: {PROFILE_DIR.value}")


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


def _default_output(features: list[str]) -> str:
    return os.path.join("dreams", f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{safe_name(' '.join(features))}")


if __name__ == "__main__":
    command_line.start(main, PROGRAM)
