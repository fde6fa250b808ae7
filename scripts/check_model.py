"""Compare a model with its PyTorch original: logits, every observed site of every layer, and token gradients.

python scripts/check_model.py --model=EleutherAI/pythia-70m

loads the model here and in transformers, both in float32, runs a few random prompts through both, and prints for each
layer and site the largest difference, as a share of the site's largest value in that layer; then the largest
difference of logits, and the relative norm of the difference of token gradients, of neurons of three layers and of a
logit. It exits with 1 if anything differs by more than --tolerance. PyTorch must be installed, and for a GGUF file
accelerate.
"""

from __future__ import annotations

import importlib.util
import sys

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

import epo_jax
from epo_jax import command_line
from epo_jax.errors import EpoError
from epo_jax.models.tokenizers import adds_bos, allowed_tokens

MODEL = flags.DEFINE_string("model", "smollm2-135m", "embedded model's name, .gguf file, folder, or hub id")
REVISION = flags.DEFINE_string("revision", None, "branch, tag or commit of a model of the hub")
PROMPTS = flags.DEFINE_integer("prompts", 4, "random prompts", lower_bound=1)
LENGTH = flags.DEFINE_integer("length", 12, "tokens of a prompt, without BOS", lower_bound=2)
SEED = flags.DEFINE_integer("seed", 0, "of the prompts")
TOLERANCE = flags.DEFINE_float("tolerance", 1e-3, "what may differ: a share of the largest value")
PENALTY = 1.0


def random_prompts(lm: epo_jax.LanguageModel) -> np.ndarray:
    """Random allowed tokens, int64[prompts, S], behind a BOS where the tokenizer adds one."""
    rng = np.random.default_rng(SEED.value)
    tokens = np.flatnonzero(allowed_tokens(lm.tokenizer, lm.config.vocab_size))
    ids = rng.choice(tokens, (PROMPTS.value, LENGTH.value)).astype(np.int64)
    if not adds_bos(lm.tokenizer):
        return ids
    return np.insert(ids, 0, lm.tokenizer.bos_token_id, axis=1)


def shares(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Largest difference of each layer [L] as a share of the layer's largest value."""
    layers = len(theirs)
    different = np.abs(ours - theirs).reshape(layers, -1).max(axis=1)
    return np.asarray(different / np.abs(theirs).reshape(layers, -1).max(axis=1))


def main() -> None:
    """Load both, compare, print."""
    if importlib.util.find_spec("torch") is None:
        raise EpoError("PyTorch is not installed, and the model is compared with it; run: pip install torch accelerate")
    # Imported here, since they need PyTorch.
    from checking.sites import both_sides, logit_feature, present, torch_logits
    from checking.sources import torch_model
    from checking.torch_oracle import gradients

    lm = epo_jax.load_model(MODEL.value, dtype="float32", revision=REVISION.value)
    model = torch_model(lm)
    ids = random_prompts(lm)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)

    seen = {site: shares(*pair) for site, pair in both_sides(lm, model, ids, present(lm)).items()}
    table = Table("layer", *(site.removeprefix("blocks.{l}.").removeprefix("hook_") for site in seen))
    for layer in range(lm.config.layers):
        table.add_row(str(layer), *(f"{values[layer]:.1e}" for values in seen.values()))
    console.print(table)
    worst = {site: float(values.max()) for site, values in seen.items()}

    theirs = torch_logits(model, ids)
    ours = np.asarray(epo_jax.logits(lm, ids))
    worst["logits"] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    console.print(f"logits: {np.abs(ours - theirs).max():.1e} of {np.abs(theirs).max():.1f}, {worst['logits']:.1e}")

    layers = sorted({0, lm.config.layers // 2, lm.config.layers - 1})
    token = int(np.flatnonzero(allowed_tokens(lm.tokenizer, lm.config.vocab_size))[SEED.value])
    features = {f"L{layer}.N5": epo_jax.parse_feature(f"L{layer}.N5", lm) for layer in layers}
    for oracle, feature in (features | {f"token {token}": logit_feature(token)}).items():
        expected = gradients(model, oracle, ids, PENALTY)
        found = np.asarray(epo_jax.token_gradients(lm, feature, ids, PENALTY))
        worst[oracle] = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
        console.print(f"token gradients of {oracle}: relative norm {worst[oracle]:.1e}")

    # Written so that NaN fails.
    failed = [name for name, value in worst.items() if not value <= TOLERANCE.value]
    console.print(
        f"{lm.source} on {jax.devices()[0].platform}: "
        + (f"differs by more than {TOLERANCE.value:g} in {', '.join(failed)}" if failed else "agrees with PyTorch")
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    command_line.start(main, "check_model")
