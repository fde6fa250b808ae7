"""Frozen text around the optimized tokens."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int32

from epo_jax.errors import EpoError, one_line
from epo_jax.models import LanguageModel
from epo_jax.models.text_tokens import shown, tokens_of
from epo_jax.models.tokenizers import adds_bos

BOS = ("auto", "always", "never")
PROMPT = "{prompt}"


@dataclasses.dataclass(frozen=True)
class Template:
    """Text that stands before and after the optimized tokens and is never changed.

    Attributes:
        prefix: text before them.
        suffix: text after them.
        bos: "auto" puts a BOS first if the model's tokenizer does, "always" and "never" do as they say. One that the
            prefix itself starts with is not put there twice.

    Raises:
        EpoError: another value of `bos`.
    """

    prefix: str = ""
    suffix: str = ""
    bos: str = "auto"

    def __post_init__(self) -> None:
        if self.bos not in BOS:
            raise EpoError(f"--bos={self.bos}: not one of {', '.join(BOS)}")

    @classmethod
    def from_text(cls, text: str, bos: str = "auto") -> Template:
        """The template of a text that holds {prompt} where the optimized tokens stand.

        Raises:
            EpoError: the text does not hold {prompt} exactly once, or another value of `bos`.
        """
        count = text.count(PROMPT)
        if count != 1:
            raise EpoError(
                f"--template={shown(text)}: holds {PROMPT} {count} times, where the optimized tokens stand at one place"
            )
        prefix, _, suffix = text.partition(PROMPT)
        return cls(prefix, suffix, bos)


def chat_template(lm: LanguageModel, text: str = PROMPT, system: str | None = None, bos: str = "auto") -> Template:
    """What the model's own chat template puts around the optimized tokens in a user's message.

    The assistant's turn is open behind it. The texts before and behind the prompt are tokenized apart, as all frozen
    text is: where the tokenizer would merge the prompt's first or last token with its neighbour, the ids are others
    than those of the whole conversation. Chat templates that look into the message see a plain word in the prompt's
    place, and white space that they take off a message's ends is taken off the frozen text, not off the prompt.

    Args:
        lm: the model.
        text: the user's message, {prompt} in it.
        system: the system's message; without one the chat template's own, if it has one.
        bos: "always" puts a BOS before chat templates that have none; with "auto" and "never" a BOS is there if the
            chat template has one.

    Raises:
        EpoError: a tokenizer without a chat template, or one that cannot take these messages.
    """
    around = Template.from_text(text, bos)
    program = lm.tokenizer.chat_template
    if program is None:
        raise EpoError(f"--chat: the tokenizer of {lm.source} has no chat template; use --template instead")
    word = "PromptStandsHere"
    while word in f"{program}{system}{text}":
        word += "x"
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": around.prefix + word + around.suffix})
    try:
        whole = str(lm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:
        # The template is a stranger's program, run in jinja's sandbox, and may fail in any way.
        raise EpoError(f"--chat: the chat template of {lm.source} fails ({one_line(error)})") from error
    count = whole.count(word)
    if count != 1:
        raise EpoError(
            f"--chat: the chat template of {lm.source} writes the user's message {count} times, where once is read; "
            "use --template instead"
        )
    prefix, _, suffix = whole.partition(word)
    return Template(prefix, suffix, "always" if bos == "always" else "never")


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
        EpoError: a BOS is asked for and the tokenizer has none, a text that its tokens do not give back, or a token
            that the model has not.
    """
    bos = lm.tokenizer.bos_token_id
    if template.bos == "always" and bos is None:
        raise EpoError(f"--bos=always: the tokenizer of {lm.source} has no BOS token; use auto or never")
    prefix = tokens_of(lm, template.prefix, "--prefix")
    suffix = tokens_of(lm, template.suffix, "--suffix", inside=True)
    with_bos = template.bos == "always" or (template.bos == "auto" and adds_bos(lm.tokenizer))
    if with_bos and prefix[:1] != [bos]:
        prefix = [bos, *prefix]
    return FrozenTokens(np.asarray(prefix, np.int32), np.asarray(suffix, np.int32))
