"""Frozen text around the optimized tokens."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int32

from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.models.tokenizers import adds_bos

BOS = ("auto", "always", "never")


@dataclasses.dataclass(frozen=True)
class Template:
    """Text that stands before and after the optimized tokens and is never changed.

    Attributes:
        prefix: text before them.
        suffix: text after them.
        bos: "auto" puts a BOS first if the model's tokenizer does, "always" and "never" do as they say.

    Raises:
        EpoError: another value of `bos`.
    """

    prefix: str = ""
    suffix: str = ""
    bos: str = "auto"

    def __post_init__(self) -> None:
        if self.bos not in BOS:
            raise EpoError(f"--bos={self.bos}: not one of {', '.join(BOS)}")


@dataclasses.dataclass(frozen=True)
class FrozenTokens:
    """A template's tokens.

    Attributes:
        prefix: int32[n], a BOS included.
        suffix: int32[m].
    """

    prefix: Int32[np.ndarray, " n"]
    suffix: Int32[np.ndarray, " m"]


NOTHING = FrozenTokens(np.zeros(0, np.int32), np.zeros(0, np.int32))


def frozen_tokens(lm: LanguageModel, template: Template) -> FrozenTokens:
    """The tokens of a template, each text tokenized by itself.

    Raises:
        EpoError: a BOS is asked for and the tokenizer has none, or a token that the model has not.
    """
    bos = lm.tokenizer.bos_token_id
    if template.bos == "always" and bos is None:
        raise EpoError(f"--bos=always: the tokenizer of {lm.source} has no BOS token; use auto or never")
    with_bos = template.bos == "always" or (template.bos == "auto" and adds_bos(lm.tokenizer))
    start = [bos] if with_bos else []
    encode = lm.tokenizer.encode
    prefix = start + encode(template.prefix, add_special_tokens=False)
    suffix = encode(template.suffix, add_special_tokens=False)
    outside = sorted({token for token in prefix + suffix if token >= lm.config.vocab_size})
    if outside:
        raise EpoError(
            f"template: its tokens {', '.join(map(str, outside))} are outside the model's vocabulary of "
            f"{lm.config.vocab_size}"
        )
    return FrozenTokens(np.asarray(prefix, np.int32), np.asarray(suffix, np.int32))
