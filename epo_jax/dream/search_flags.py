"""Flags of every command line that dreams, and what they stand for; what a program's own flags say is beside them.

The library never imports this: a flag is defined for the whole process.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from rich.console import Console

from epo_jax.config import PRESETS, EPOConfig
from epo_jax.constraints import RETOKENIZE as RETOKENIZATIONS
from epo_jax.constraints import Constraints
from epo_jax.dream import setting_flags
from epo_jax.dream.attributions import SHARE, check_share
from epo_jax.dream.given import parse_position, parse_token
from epo_jax.dream.run_folder import EVERY, KEEP
from epo_jax.dream.starts import INITS, RANDOM
from epo_jax.epo.guide import check_operators
from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel, load_model
from epo_jax.models.config import DTYPES
from epo_jax.models.on_mesh import told_of
from epo_jax.models.text_tokens import shown
from epo_jax.parallel import mesh_text
from epo_jax.parallel.mesh import AUTO
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import NONE, parse_scale
from epo_jax.scoring.template import BOS, PROMPT, Template, chat_template

MODEL = flags.DEFINE_string(
    "model",
    "smollm2-135m",
    "embedded model's name, .gguf file, folder in Hugging Face format, random:CONFIG.json for random weights, or an id "
    "of the Hugging Face hub: owner/name or owner/name/file.gguf",
)
REVISION = flags.DEFINE_string(
    "revision", None, "branch, tag or commit of a model of the Hugging Face hub; by default main"
)
PRESET = flags.DEFINE_enum(
    "preset", None, list(PRESETS), "settings; by default quick on a CPU, paper on an accelerator"
)
flags.adopt_module_key_flags(setting_flags)
PREFIX = flags.DEFINE_string("prefix", "", "frozen text before the prompt")
SUFFIX = flags.DEFINE_string("suffix", "", "frozen text after the prompt")
TEMPLATE = flags.DEFINE_string("template", None, "both in one: frozen text with {prompt} where the prompt stands")
CHAT = flags.DEFINE_boolean(
    "chat", False, "whether the prompt, and the frozen text around it, are a user's message in the model's chat format"
)
SYSTEM = flags.DEFINE_string("system", None, "system message of --chat; by default the model's own, if it has one")
BOS_FLAG = flags.DEFINE_enum("bos", "auto", list(BOS), "whether a BOS stands first; auto does as the tokenizer does")
INIT = flags.DEFINE_enum(
    "init",
    RANDOM,
    list(INITS),
    "what slots start from: random tokens, samples of the model after the frozen text, or the feature's strongest "
    "examples of the dataset that --scan is of",
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
ATTRIBUTION_SHARE = flags.DEFINE_float(
    "attribution_share",
    SHARE,
    "what that may cost, as a share of the prompts that the search scored; a longer frontier is not tried whole",
)
CONTINUATION = flags.DEFINE_boolean(
    "continuation", True, "whether results say how the model itself goes on after the frontier's prompts"
)
DTYPE = flags.DEFINE_enum("dtype", None, list(DTYPES), "by default float32 on a CPU, bfloat16 on an accelerator")
MESH = flags.DEFINE_string(
    "mesh",
    None,
    "devices that share the work, data:8, or work and weights, data:4,model:2; auto takes all devices, and shares "
    "weights as far as memory asks for it; by default one",
)
FSDP = flags.DEFINE_boolean(
    "fsdp", False, "whether weights are spread over the mesh's axis data too, for models that do not fit otherwise"
)
MICRO_BATCH = flags.DEFINE_integer(
    "micro_batch", None, "rows of tokens that evaluation runs as one block; by default as many as there is memory for"
)
CHECKPOINT_EVERY = flags.DEFINE_float(
    "checkpoint_every", EVERY, "seconds between checkpoints, from which --resume goes on"
)
KEEP_CHECKPOINTS = flags.DEFINE_integer("keep_checkpoints", KEEP, "how many of the newest checkpoints stay")
CACHE_DIR = flags.DEFINE_string(
    "compilation_cache_dir",
    None,
    "where compiled programs are kept; by default the user's cache folder, and nowhere if it is empty",
)


def search_config(console: Console, default: EPOConfig | None = None) -> EPOConfig:
    """The preset and what is given beside it; says which preset it took if none was given.

    Args:
        console: where that is said.
        default: what stands in a preset's place where none is given; by default the one that suits the device.

    Raises:
        EpoError: a setting that cannot be used.
    """
    preset, settings = PRESET.value, default
    if preset is None and default is None:
        preset = "quick" if jax.default_backend() == "cpu" else "paper"
        console.print(
            f"preset {preset}: the default on {'a CPU' if preset == 'quick' else 'an accelerator'}; "
            f"--preset={'paper' if preset == 'quick' else 'quick'} for "
            f"{'the paper settings' if preset == 'quick' else 'a short run'}"
        )
    if preset is not None:
        settings = PRESETS[preset]
    config = dataclasses.replace(settings or EPOConfig(), **setting_flags.given())
    check_operators(config)
    return config


def dream_options() -> dict[str, Any]:
    """Keywords of `dream` that flags give and that need no model.

    Raises:
        EpoError: a flag that cannot be used.
    """
    parse_scale(SCALE.value)
    check_share(ATTRIBUTION_SHARE.value)
    return {
        "constraints": constraints(),
        "init": INIT.value,
        "init_text": INIT_TEXT.value,
        "init_file": INIT_FILE.value,
        "read": READ.value,
        "scale": SCALE.value,
        "attribution": ATTRIBUTION.value,
        "attribution_share": ATTRIBUTION_SHARE.value,
        "continuation": CONTINUATION.value,
        "micro_batch": MICRO_BATCH.value,
        "checkpoint_every": CHECKPOINT_EVERY.value,
        "keep_checkpoints": KEEP_CHECKPOINTS.value,
    }


def frozen_text() -> Template:
    """The text around prompts; `in_chat` puts it into a message if that was asked for.

    Raises:
        EpoError: flags that exclude each other, or a text without a place for the prompt.
    """
    if SYSTEM.value is not None and not CHAT.value:
        raise EpoError(f"--system={shown(SYSTEM.value)}: is a message of a chat; give --chat as well")
    if TEMPLATE.value is None:
        return Template(PREFIX.value, SUFFIX.value, BOS_FLAG.value)
    if PREFIX.value or SUFFIX.value:
        raise EpoError(f"--template={shown(TEMPLATE.value)}: holds prefix and suffix; leave out --prefix and --suffix")
    return Template.from_text(TEMPLATE.value, BOS_FLAG.value)


def in_chat(lm: LanguageModel, template: Template) -> Template:
    """The frozen text as a message of the model's chat format, with --chat; as it is, without.

    Raises:
        EpoError: a model without a chat format.
    """
    if not CHAT.value:
        return template
    return chat_template(lm, template.prefix + PROMPT + template.suffix, SYSTEM.value, template.bos)


def constraints() -> Constraints:
    """What prompts may be.

    Raises:
        EpoError: a flag that cannot be used.
    """
    return Constraints(
        ban_tokens=tuple(map(parse_token, BAN_TOKENS.value)),
        ban_pattern=BAN_PATTERN.value,
        ascii_only=ASCII_ONLY.value,
        ban_text=tuple(BAN_TEXT.value),
        retokenize=RETOKENIZE.value,
        freeze=tuple(map(parse_position, FREEZE.value)),
        allow_special=ALLOW_SPECIAL.value,
    )


def load_models(console: Console, mesh: Mesh | str | None) -> tuple[LanguageModel, LanguageModel | None]:
    """Load --model, and --fluency_model if there is one, telling how far that is and how weights lie on devices.

    Args:
        console: where that is told.
        mesh: devices that share the work, or their text; None for one. Which they are, `mesh` of the model tells.

    Raises:
        EpoError: a model that cannot be had.
    """
    lm = _load(console, MODEL.value, REVISION.value, mesh)
    return lm, None if FLUENCY_MODEL.value is None else _load(console, FLUENCY_MODEL.value, None, lm.mesh)


def _load(console: Console, model: str, revision: str | None, mesh: Mesh | str | None) -> LanguageModel:
    status = console.status("")

    def progress(done: int, whole: int) -> None:
        # Not before: a download draws bars of its own.
        status.start()
        status.update(f"loading {model}: {done / whole:.0%}")

    try:
        lm = load_model(model, DTYPE.value, revision=revision, progress=progress, mesh=mesh, fsdp=FSDP.value)
    finally:
        status.stop()
    # What was asked for by its axes needs no telling, unless something of it is not as one may think.
    if lm.mesh is not None and (mesh == AUTO or told_of(lm)):
        console.print(": ".join(filter(None, (f"mesh {mesh_text(lm.mesh)}", told_of(lm)))))
    return lm
