"""Which prompts are the same tokens again when their text is tokenized; looked up on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from epo_jax.epo.lengths import bare

# Prompts that are remembered; more than a run of the paper's size looks up.
REMEMBERED = 2**19


class Survival:
    """Says which prompts survive decoding and encoding together with the text around them, a BOS aside."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, prefix: Sequence[int] = (), suffix: Sequence[int] = ()):
        """Frozen tokens before and after the prompts are given as the model is given them."""
        self._backend = _plain(tokenizer.backend_tokenizer)
        start = 1 if len(prefix) and prefix[0] == tokenizer.bos_token_id else 0
        self._prefix, self._suffix = list(map(int, prefix[start:])), list(map(int, suffix))
        self._known: dict[bytes, bool] = {}

    def of(self, prompts: Integer[np.ndarray, "N T"]) -> Bool[np.ndarray, " N"]:
        """Which prompts survive."""
        keys = [prompt.tobytes() for prompt in prompts.astype(np.int32)]
        new = {key: number for number, key in enumerate(keys) if key not in self._known}
        if len(self._known) + len(new) > REMEMBERED:
            self._known.clear()
            new = {key: number for number, key in enumerate(keys)}
        if new:
            self._known.update(zip(new, self.looked_up(prompts[list(new.values())]), strict=True))
        return np.asarray([self._known[key] for key in keys], np.bool_)

    def looked_up(self, prompts: Integer[np.ndarray, "N T"], whole: bool = True) -> list[bool]:
        """The same without remembering, and with `whole` False without the text after the prompts."""
        suffix = self._suffix if whole else []
        sequences = [self._prefix + bare(prompt).tolist() + suffix for prompt in prompts]
        texts = self._backend.decode_batch(sequences, skip_special_tokens=False)
        read = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [again.ids == ids for again, ids in zip(read, sequences, strict=True)]


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer that neither fills up nor cuts off."""
    if tokenizer.padding is None and tokenizer.truncation is None:
        return tokenizer
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    return plain
