"""Flags of a search's settings, one for each field of `EPOConfig`; all of them are None where they are not given."""

from __future__ import annotations

from typing import Any

from absl import flags

from epo_jax.config import BEST, OPTIONS, PENALTIES, POSITIONS, SEARCHES, EPOConfig

_OF_EVERY_SEARCH = {
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
    "search": "paper, exactly that, or best, with more operators and other choices, which the flags that follow change",
}
# Of the search "best"; the search "paper" has none of them.
_OF_BEST = {
    "operators": "mutation operators with their shares of the children to begin with, name:share,name:share",
    "adaptation": "power of an operator's success that its share follows; 0 for fixed shares",
    "oversample": "edits that are drawn for each child, of which one is run",
    "noise": "nats/token by which objectives scatter beside the part that is known before running; the greater, the "
    "less that part chooses",
    "positions": "what positions of edits are chosen by",
    "penalties": "whether penalties are as given or in units of the slope of the frontier found so far",
    "distinct": "whether slots hold different prompts",
    "archive": "whether prompts that were scored are left out",
    "fragments": "whether tokens may be used that hold parts of characters alone",
    "repetition": "share of a prompt's tokens that may stand in it before; 1 for any",
    "least_length": "fewest tokens that a prompt may have, where --length is the most; 0 for as many as --length",
    "kept_first": "tokens of the greatest gradient that are drawn from in the first iteration",
    "kept_last": "the same in the last iteration; between them it changes by equal factors",
    "momentum": "share of each slot's gradient that is added to the one of the next iteration",
    "model_starts": "samples of the model among which the initial prompts are chosen",
    "random_starts": "prompts of uniformly drawn tokens among which they are chosen",
    "beam": "whether a beam through the model writes the initial prompts, token by token",
    "beginnings": "how often the search begins anew, the first time included, each time with other initial prompts",
    "diversity": "of several seeds of one feature, what a prompt loses that has all its tokens in common with the "
    "dreams before, as a share of the frontier's height",
    "merging": "share of iterations at the end that goes on from the best prompts of all beginnings",
}
_CHOICES = {"search": SEARCHES, "positions": POSITIONS, "penalties": PENALTIES}


def _define(name: str, default: object, told: str) -> None:
    """A flag for a setting, of the type of its default, and None where it is not given."""
    if name in _CHOICES:
        flags.DEFINE_enum(name, None, list(_CHOICES[name]), told)
    elif isinstance(default, bool):
        flags.DEFINE_boolean(name, None, told)
    elif isinstance(default, int):
        flags.DEFINE_integer(name, None, told)
    elif isinstance(default, float):
        flags.DEFINE_float(name, None, told)
    else:
        flags.DEFINE_string(name, None, told)


for _name, _told in _OF_EVERY_SEARCH.items():
    _define(_name, getattr(EPOConfig(), _name), f"{_told}; by default the preset's")
for _name, _told in _OF_BEST.items():
    _best = getattr(OPTIONS[BEST], _name)
    _define(_name, _best, f"with --search={BEST}: {_told}; by default {_best}")


def given() -> dict[str, Any]:
    """The settings that flags give, by name."""
    values = {name: flags.FLAGS[name].value for name in (*_OF_EVERY_SEARCH, *_OF_BEST)}
    return {name: value for name, value in values.items() if value is not None}
