"""The flags of scripts that read texts: the model, the texts, and what stands around them."""

from __future__ import annotations

from absl import flags

import epo_jax
from epo_jax.models.config import DTYPES
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.template import BOS, Template

MODEL = flags.DEFINE_string("model", "smollm2-135m", "embedded model's name, .gguf file, folder, or hub id")
REVISION = flags.DEFINE_string("revision", None, "branch, tag or commit of a model of the hub")
DTYPE = flags.DEFINE_enum("dtype", None, list(DTYPES), "by default float32 on a CPU, bfloat16 on an accelerator")
TEXT = flags.DEFINE_multi_string("text", [], "a text; may be repeated")
FILE = flags.DEFINE_multi_string("file", [], "file with a text on each line, - for standard input; may be repeated")
PREFIX = flags.DEFINE_string("prefix", "", "frozen text before each text")
SUFFIX = flags.DEFINE_string("suffix", "", "frozen text after each text")
BOS_FLAG = flags.DEFINE_enum("bos", "auto", list(BOS), "whether a BOS stands first; auto does as the tokenizer does")
READ = flags.DEFINE_string(
    "read", LAST, "where the feature is read: last, max (over the text's tokens) or a position in the whole sequence"
)


def load() -> epo_jax.LanguageModel:
    """The model."""
    return epo_jax.load_model(MODEL.value, DTYPE.value, revision=REVISION.value)


def template() -> Template:
    """What stands around each text."""
    return Template(PREFIX.value, SUFFIX.value, BOS_FLAG.value)
