"""Constraints as what a search is given of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from epo_jax.constraints.constraints import Constraints
from epo_jax.constraints.text_automaton import text_automaton
from epo_jax.epo.automaton import Automaton
from epo_jax.errors import EpoError
from epo_jax.models.token_bytes import token_bytes


@dataclasses.dataclass(frozen=True)
class Rules:
    """What constraints are to a search, by the names of the search's own fields.

    Attributes:
        automaton: of the banned texts; None without any.
        movable: bool[T], positions that are not frozen; None where all may move.
        checked: whether children are looked at on the host before they are scored.
    """

    automaton: Automaton | None = None
    movable: Bool[Array, " T"] | None = None
    checked: bool = False


def rules_of(
    constraints: Constraints,
    tokenizer: PreTrainedTokenizerFast,
    allowed: Bool[np.ndarray, " V"],
    length: int,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
) -> Rules:
    """What a search is given of constraints, beside the tokens that are allowed.

    Args:
        constraints: what prompts may be.
        tokenizer: the model's.
        allowed: see `allowed_mask`.
        length: optimized tokens (T).
        prefix: frozen tokens before them, a BOS included.
        suffix: frozen tokens after them.

    Raises:
        EpoError: positions that there are not, no position left, or texts that leave no prompt.
    """
    movable = movable_positions(constraints, length)
    automaton = None
    if constraints.ban_text:
        tokens = token_bytes(tokenizer, len(allowed))
        if tokens.unknown:
            raise EpoError(
                f"--ban_text: this tokenizer decodes by {tokens.unknown}, whose texts are not known before they are "
                "decoded; byte-level and SentencePiece tokenizers are read"
            )
        automaton = text_automaton(constraints.ban_text, tokens, allowed, length, prefix, suffix)
    return Rules(
        automaton=automaton,
        movable=None if movable.all() else jnp.asarray(movable),
        checked=constraints.retokenize == "reject",
    )


def movable_positions(constraints: Constraints, length: int) -> Bool[np.ndarray, " T"]:
    """Positions that are not frozen.

    Raises:
        EpoError: positions that there are not, or none left.
    """
    movable = np.ones(length, np.bool_)
    for position in constraints.freeze:
        if not -length <= position < length:
            raise EpoError(f"--freeze={position}: the prompt has {length} tokens, {-length} to {length - 1}")
        movable[position] = False
    if not movable.any():
        raise EpoError(f"--freeze={','.join(map(str, constraints.freeze))}: leaves none of {length} tokens to change")
    return movable
