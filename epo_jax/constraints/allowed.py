"""Which tokens a search may use."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Bool
from transformers import PreTrainedTokenizerFast

from epo_jax.constraints.constraints import Constraints
from epo_jax.errors import EpoError
from epo_jax.models.token_bytes import TokenBytes, token_bytes
from epo_jax.models.tokenizers import allowed_tokens, token_texts

# A search replaces tokens by others.
LEAST = 2


def allowed_mask(
    constraints: Constraints, tokenizer: PreTrainedTokenizerFast, vocab_size: int, held: TokenBytes | None = None
) -> Bool[np.ndarray, " V"]:
    """Which tokens a search may use under constraints on single tokens.

    Args:
        constraints: of which `ban_tokens`, `ban_pattern`, `ascii_only` and `allow_special` count here.
        tokenizer: the model's tokenizer.
        vocab_size: V, the rows of the embedding.
        held: the tokens' bytes, where they are known already.

    Returns:
        bool[V], False for rows without a token and, unless allowed, for special and unused tokens.

    Raises:
        EpoError: a token that does not exist, or too few that are left.
    """
    known = tokenizer.backend_tokenizer.id_to_token
    rows = [index for index in range(vocab_size) if known(index) is not None]
    allowed = allowed_tokens(tokenizer, vocab_size)
    if constraints.allow_special:
        allowed[rows] = True
    before = int(allowed.sum())
    if constraints.ascii_only:
        held = held or token_bytes(tokenizer, vocab_size)
        allowed &= [text.isascii() for text in held.anywhere]
    if constraints.ban_pattern or any(isinstance(token, str) for token in constraints.ban_tokens):
        texts = dict(zip(rows, token_texts(tokenizer, rows), strict=True))
    for token in constraints.ban_tokens:
        if isinstance(token, str):
            banned = [index for index, text in texts.items() if text == token]
        else:
            banned = [token] if 0 <= token < vocab_size and known(token) is not None else []
        if not banned:
            raise EpoError(
                f"--ban_tokens={token}: the tokenizer has no such token; give an id below {vocab_size}, or a token's "
                "whole text with its spaces"
            )
        allowed[banned] = False
    if constraints.ban_pattern:
        found = re.compile(constraints.ban_pattern).search
        allowed[[index for index, text in texts.items() if found(text)]] = False
    if allowed.sum() < LEAST:
        flags = [f"--{name}" for name in ("ban_tokens", "ban_pattern", "ascii_only") if getattr(constraints, name)]
        raise EpoError(
            f"{', '.join(flags) or 'vocabulary'}: {allowed.sum()} of {before} tokens are left, and a search needs at "
            f"least {LEAST}"
        )
    return allowed
