"""Prompts that do not come from the search itself, held against its constraints on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int32, Integer
from transformers import PreTrainedTokenizerFast

from epo_jax.constraints.constraints import Constraints
from epo_jax.constraints.host_tables import HostTables
from epo_jax.constraints.survival import Survival
from epo_jax.epo import Algorithm
from epo_jax.epo.lengths import PAD, bare
from epo_jax.errors import EpoError
from epo_jax.models.tokenizers import token_texts


class Inspection:
    """Looks at prompts.

    Attributes:
        survival: says which prompts survive decoding and encoding; None where that is not asked for.
        rejects: it, where prompts that do not survive are rejected.
    """

    def __init__(
        self,
        constraints: Constraints,
        tokenizer: PreTrainedTokenizerFast,
        algorithm: Algorithm,
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
    ):
        """Look at prompts of a search that was built with constraints, between frozen tokens."""
        self._constraints, self._tokenizer = constraints, tokenizer
        self._tables = HostTables(algorithm)
        kept = constraints.retokenize != "off"
        self.survival = Survival(tokenizer, prefix, suffix) if kept else None
        self.rejects = self.survival if algorithm.checked else None

    def keeps(self, prompts: Integer[np.ndarray, "N T"]) -> Bool[np.ndarray, " N"]:
        """Which prompts satisfy all constraints; frozen positions may hold tokens that are banned."""
        kept: Bool[np.ndarray, " N"] = ~(self._banned(prompts).any(axis=1) | self._tables.breaks(prompts))
        return kept if self.rejects is None else kept & self.rejects.of(prompts)

    def check(self, prompts: Int32[np.ndarray, "*R P T"]) -> None:
        """Check prompts that a search is to start from.

        Raises:
            EpoError: one that breaks a constraint.
        """
        prompts = prompts.reshape(-1, prompts.shape[-1])
        banned = self._banned(prompts)
        if banned.any():
            row, column = (int(found[0]) for found in np.nonzero(banned))
            token = int(prompts[row, column])
            text = token_texts(self._tokenizer, [token])[0]
            raise EpoError(
                f"initial prompt {self._shown(prompts[row])}: token {token} ({text!r}) at position {column} is banned; "
                "give another prompt, --freeze the position, or lift --ban_tokens, --ban_pattern or --ascii_only"
            )
        breaks = self._tables.breaks(prompts)
        if breaks.any():
            raise EpoError(
                f"initial prompt {self._shown(prompts[breaks.argmax()])}: it holds, with the text around it, one of "
                f"--ban_text={', '.join(map(repr, self._constraints.ban_text))}"
            )
        survives = np.ones(1, np.bool_) if self.rejects is None else self.rejects.of(prompts)
        if not survives.all():
            raise EpoError(
                f"initial prompt {self._shown(prompts[survives.argmin()])}: its text, with the text around it, is "
                "tokenized to other tokens, and --retokenize=reject asks for the same; give another one"
            )

    def _banned(self, prompts: Integer[np.ndarray, "N T"]) -> Bool[np.ndarray, "N T"]:
        banned: Bool[np.ndarray, "N T"] = ~self._tables.allowed[prompts] & self._tables.movable & (prompts != PAD)
        return banned

    def _shown(self, prompt: Integer[np.ndarray, " T"]) -> str:
        return repr(self._tokenizer.decode(bare(prompt).tolist(), clean_up_tokenization_spaces=False))
