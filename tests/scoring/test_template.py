"""Frozen text: where it is cut, which tokens it has, and what is refused."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

import epo_jax
from epo_jax import EpoError, Template
from epo_jax.models.random_model import numbered_tokenizer
from epo_jax.models.tokenizers import tokenizer_from_gguf
from epo_jax.scoring import chat_template
from epo_jax.scoring.template import frozen_tokens

# A chat template of the usual make, which starts with a BOS and takes white space off the message.
USUAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system here') }}"
    "{% endif %}[{{ m['role'] }}] {{ m['content'] | trim }}\n{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)


def chatting(lm: epo_jax.LanguageModel, template: str) -> epo_jax.LanguageModel:
    """The model with a chat template."""
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = template
    return dataclasses.replace(lm, tokenizer=tokenizer)


def words(tokens: list[str], **changes: object) -> dict[str, object]:
    """A SentencePiece vocabulary as a GGUF file has it: specials, bytes, and tokens, of which later ones are rarer."""
    special, bytes_ = ["<unk>", "<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    keys = {
        "model": "llama",
        "tokens": [*special, *bytes_, *tokens],
        "token_type": [2, 3, 3, *[6] * 256, *[1] * len(tokens)],
        "scores": [0.0] * 259 + [-float(number) for number in range(len(tokens))],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    return {f"tokenizer.ggml.{name}": value for name, value in (keys | changes).items()}


PIECES = ["▁", "d", "o", "g", "▁d", "og", "dog", "▁dog", "[", "]", "/"]


@pytest.fixture(scope="module")
def spaced(tiny: epo_jax.LanguageModel) -> epo_jax.LanguageModel:
    """A model whose tokenizer puts a space before every text."""
    return dataclasses.replace(tiny, tokenizer=tokenizer_from_gguf(words(PIECES), "words.gguf"))


def test_a_text_is_cut_where_it_says_prompt():
    assert Template.from_text("Tell me about {prompt} now") == Template("Tell me about ", " now")
    assert Template.from_text("{prompt}", bos="never") == Template(bos="never")
    assert Template.from_text("{a} {prompt} {}") == Template("{a} ", " {}")


@pytest.mark.parametrize(("text", "count"), [("", 0), ("{ prompt }", 0), ("{prompt} or {prompt}\n", 2)])
def test_a_text_without_one_place_for_the_prompt_is_refused(text, count):
    with pytest.raises(EpoError, match=rf"^--template=.*holds \{{prompt\}} {count} times"):
        Template.from_text(text)


@pytest.mark.parametrize("system", [None, "You are terse."])
@pytest.mark.parametrize(("text", "prompt"), [("{prompt}", "a red fox"), ("Say{prompt}, please.\n", " dog")])
def test_chat_tokens_around_the_prompt_are_those_of_the_whole_conversation(lm, text, prompt, system):
    frozen = frozen_tokens(lm, chat_template(lm, text, system))
    messages = [{"role": "user", "content": text.replace("{prompt}", prompt)}]
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages]
    whole = lm.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    middle = lm.tokenizer.encode(prompt, add_special_tokens=False)
    assert [*frozen.prefix, *middle, *frozen.suffix] == whole


def test_a_bos_that_the_chat_template_writes_stands_once(tiny):
    chat = chatting(tiny, USUAL)
    encode = tiny.tokenizer.encode
    for bos in ("auto", "always", "never"):
        template = chat_template(chat, "  so {prompt} ", bos=bos)
        assert (template.prefix, template.suffix) == ("<s>[user] so ", "\n[a]")
        assert frozen_tokens(chat, template).prefix.tolist() == [0, *encode("[user] so ")]
    silent = chatting(tiny, USUAL.replace("{{ bos_token }}", ""))
    for bos, start in (("auto", []), ("always", [0]), ("never", [])):
        assert frozen_tokens(silent, chat_template(silent, bos=bos)).prefix.tolist() == [*start, *encode("[user] ")]


def test_a_bos_that_the_prefix_starts_with_stands_once(tiny):
    for bos in ("always", "never"):
        assert frozen_tokens(tiny, Template("<s>a", bos=bos)).prefix.tolist() == [0, *tiny.tokenizer.encode("a")]


def test_the_prompts_place_is_found_whatever_the_messages_say(tiny):
    said = "PromptStandsHere PromptStandsHerex"
    template = chat_template(chatting(tiny, "PromptStandsHerexx " + USUAL), f"{said} {{prompt}} {said}")
    assert (template.prefix, template.suffix) == (f"PromptStandsHerexx <s>[user] {said} ", f" {said}\n[a]")


@pytest.mark.parametrize(
    ("program", "system", "said"),
    [
        (None, None, "has no chat template; use --template instead"),
        (USUAL, "Be terse.", "fails .*no system here"),
        ("{% if %}", None, "fails"),
        ("{{ messages[0].content / 0 }}", None, "fails"),
        ("{{ nothing.more }}", None, "fails"),
        ("{{ ''.__class__.__mro__ }}", None, "fails .*unsafe"),
        ("{{ messages.append(1) }}", None, "fails .*"),
        ("always the same", None, "writes the user's message 0 times"),
        ("{{ messages[0].content }}\n{{ messages[0].content }}", None, "writes the user's message 2 times"),
        ({"tools": USUAL}, None, "fails"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_one_line(tiny, program, system, said):
    with pytest.raises(EpoError, match=rf"^--chat: .*{said}") as raised:
        chat_template(chatting(tiny, program), system=system)
    assert "\n" not in str(raised.value)


def test_a_suffix_has_no_space_put_before_it_and_a_prefix_has(spaced):
    encode = spaced.tokenizer.encode
    ids = {token: spaced.tokenizer.convert_tokens_to_ids(token) for token in PIECES}
    assert encode("dog", add_special_tokens=False) == [ids["▁dog"]]
    for suffix, tokens in (("dog", ["dog"]), (" dog", ["▁dog"]), ("  dog", ["▁", "▁dog"]), ("]dog", ["]", "dog"])):
        frozen = frozen_tokens(spaced, Template("dog", suffix, bos="always"))
        assert frozen.prefix.tolist() == [1, ids["▁dog"]]
        assert frozen.suffix.tolist() == [ids[token] for token in tokens]
    # As in the whole text, in which the tokenizer puts a space after each special token.
    frozen = frozen_tokens(spaced, Template("<s>[", "]</s>dog", bos="auto"))
    assert [*frozen.prefix, ids["dog"], *frozen.suffix] == encode("<s>[dog]</s>dog", add_special_tokens=False)


def test_white_space_that_special_tokens_swallow_is_no_loss(tiny):
    metadata = words(PIECES) | {"general.architecture": "phi3"}
    swallowing = dataclasses.replace(tiny, tokenizer=tokenizer_from_gguf(metadata, "words.gguf"))
    assert frozen_tokens(swallowing, Template("</s>\n dog", bos="never")).prefix[0] == 2
    assert len(frozen_tokens(swallowing, Template("dog", "dog</s>\n", bos="never")).suffix) == 2


@pytest.mark.parametrize("flag", ["prefix", "suffix"])
@pytest.mark.parametrize("text", ["dög", "dog\n ö", "ö"])
def test_a_text_with_a_character_without_a_token_is_refused(tiny, flag, text):
    keys = words(PIECES)
    bytes_ = slice(3, 259)
    for name in ("tokens", "token_type", "scores"):
        del keys[f"tokenizer.ggml.{name}"][bytes_]
    keys["tokenizer.ggml.tokens"].append("\n")
    keys["tokenizer.ggml.token_type"].append(1)
    keys["tokenizer.ggml.scores"].append(-20.0)
    lossy = dataclasses.replace(tiny, tokenizer=tokenizer_from_gguf(keys, "words.gguf"), source="words.gguf")
    frozen_tokens(lossy, Template(**{flag: text.replace("ö", "o")}))
    with pytest.raises(EpoError, match=rf"^--{flag}=.*words\.gguf makes .*leave out 'ö'") as raised:
        frozen_tokens(lossy, Template(**{flag: text}))
    assert "\n" not in str(raised.value)


def test_a_text_that_words_cannot_spell_is_refused_and_white_space_between_words_is_not(tiny):
    numbered = dataclasses.replace(tiny, tokenizer=numbered_tokenizer(tiny.config.vocab_size))
    frozen = frozen_tokens(numbered, Template(" t3  t5 ", " t7"))
    assert (frozen.prefix.tolist(), frozen.suffix.tolist()) == ([3, 5], [7])
    with pytest.raises(EpoError, match=r"^--prefix=t3 dog: .*makes 't3' of it; leave out ' dog'"):
        frozen_tokens(numbered, Template("t3 dog"))


def test_a_text_that_is_no_unicode_or_has_tokens_beyond_the_model_is_refused(tiny):
    with pytest.raises(EpoError, match=r"^--suffix='a\\udcff': is not valid Unicode"):
        frozen_tokens(tiny, Template(suffix="a\udcff"))
    small = dataclasses.replace(tiny, config=dataclasses.replace(tiny.config, vocab_size=200))
    the = tiny.tokenizer.encode("the")
    assert max(the) >= 200
    with pytest.raises(EpoError, match=rf"^--prefix=the: its tokens {max(the)} are outside .* 200$"):
        frozen_tokens(small, Template("the"))


def test_frozen_text_of_the_embedded_model_gives_itself_back(lm):
    for text in ("", " ", "dog", "  two\n\n", "<|im_start|>user\n", "日本é🙂", "a\u0301 \x00"):
        for given in (Template(prefix=text), Template(suffix=text)):
            frozen = frozen_tokens(lm, given)
            assert lm.tokenizer.decode(np.concatenate([frozen.prefix, frozen.suffix])) == text


def test_a_character_that_the_embedded_model_has_no_byte_for_is_refused(lm):
    without = next(chr(code) for code in range(32) if not lm.tokenizer.encode(chr(code)))
    with pytest.raises(EpoError, match=r"^--prefix='a.*b': .* makes 'ab' of it; leave out '.*', for which it has no"):
        frozen_tokens(lm, Template(prefix=f"a{without}b"))
