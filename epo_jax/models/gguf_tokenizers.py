"""Tokenizers from the metadata of GGUF files.

Facts from llama.cpp, src/llama-vocab.cpp: which names of pre-tokenizers share which patterns, and which of them imply a
BOS and whole words. Where it writes a pattern anew for its own matcher, the pattern here is that of the models'
tokenizer.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from epo_jax.errors import EpoError
from epo_jax.models.gguf_vocabulary import CONTROL, UNKNOWN, UNUSED, USER_DEFINED, Vocabulary, read_vocabulary
from epo_jax.models.sentencepiece_tokenizers import sentencepiece_bpe, spaces_in_text


@dataclasses.dataclass(frozen=True)
class PreTokenizer:
    """How text is cut into words before byte-level BPE.

    Attributes:
        patterns: regular expressions; each in turn cuts the pieces that the one before it left, and keeps what lies
            between its matches.
        whole_words: a word that is itself a token is that token, whatever the merges say.
        add_bos: whether BOS is added where the file does not say.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def _cased(end: str, numerals: str) -> str:
    """Words that change from capitals to small letters once; letters of scripts without case go with both."""
    capitals, small = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    before = r"[^\r\n\p{L}\p{N}]?"
    words = (f"{before}{capitals}*{small}+{end}", f"{before}{capitals}+{small}*{end}")
    return "|".join((*words, numerals, r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"))


_RULES = (
    ("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", PreTokenizer((r"\p{N}", _GPT2))),
    (
        "gpt-2 phi-2 mpt olmo jais exaone4 trillion granite-docling gigachat a.x-4.0 mellum modern-bert "
        "jina-es jina-de jina-v2-es jina-v2-de",
        PreTokenizer((_GPT2,)),
    ),
    (
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        PreTokenizer((_LLAMA3,), whole_words=True, add_bos=True),
    ),
    ("dbrx smaug-bpe glm4 chatglm-bpe", PreTokenizer((_LLAMA3,))),
    (
        "qwen2 stablelm2 deepseek-r1-qwen kormo f2llmv2 megrez hunyuan solar-open grok-2",
        PreTokenizer((_QWEN2,)),
    ),
    ("tekken", PreTokenizer((_cased("", r"\p{N}"),), whole_words=True, add_bos=True)),
    (
        "gpt-4o llama4 kanana2 talkie minimax-m2",
        PreTokenizer((_cased("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}"),)),
    ),
    ("default", PreTokenizer((r"[\p{P}$+<=>^~|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))),
)
PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {name: rule for names, rule in _RULES for name in names.split()}


def tokenizer_from_gguf(metadata: Mapping[str, Any], source: str) -> PreTrainedTokenizerFast:
    """The tokenizer that a GGUF file describes.

    "gpt2" files give byte-level BPE cut by the rule that tokenizer.ggml.pre names, "llama" files give SentencePiece's
    BPE by scores with byte fallback. Text is not normalized: GGUF has no key for it and llama.cpp does not, though the
    tokenizer.json of some families (GPT-NeoX, Qwen2, OLMo) composes to NFC first. Bytes that a byte-level vocabulary
    lacks are left out of the ids without a word, as by the model's own tokenizer.json (SmolLM2 lacks six control
    characters). Control tokens that stand in the text are read as such, as by transformers.

    Args:
        metadata: GGUF key -> decoded Python value.
        source: the file's name, for errors.

    Returns:
        The tokenizer. Its init_kwargs["unused_token_ids"] lists the tokens that the file marks unused.

    Raises:
        EpoError: an unsupported model or pre-tokenizer, or keys that are missing or contradict each other.
    """
    vocabulary = read_vocabulary(metadata, source)
    model = vocabulary.read("model", str)
    if model == "gpt2":
        tokenizer, add_bos = _byte_level_bpe(vocabulary)
    elif model == "llama":
        vocabulary = spaces_in_text(vocabulary)
        tokenizer, add_bos = sentencepiece_bpe(vocabulary)
    else:
        raise EpoError(
            f"{source}: tokenizer.ggml.model is {model!r}, which is not supported; supported are: gpt2, llama"
        )
    tokenizer.add_tokens(_added_tokens(vocabulary))
    names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    special = {f"{short}_token": vocabulary.special(name) for name, short in names.items()}
    ends = {"add_bos_token": vocabulary.read("add_bos_token", bool, add_bos)}
    ends["add_eos_token"] = vocabulary.read("add_eos_token", bool, False)
    for name, added in ends.items():
        if added and special[name.removeprefix("add_")] is None:
            end = name.split("_")[1]
            raise EpoError(f"{source}: {end.upper()} is to be added, but there is no tokenizer.ggml.{end}_token_id")
    chat_template = metadata.get("tokenizer.chat_template")
    if not isinstance(chat_template, str | None):
        raise EpoError(f"{source}: tokenizer.chat_template holds a {type(chat_template).__name__} where a str is read")
    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    return make(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        chat_template=chat_template,
        # transformers keeps keywords that it does not know in init_kwargs and saves them in tokenizer_config.json, so
        # the mark survives copies and save_pretrained.
        unused_token_ids=[index for index, kind in enumerate(vocabulary.types) if kind == UNUSED],
        **{name: token for name, token in special.items() if token is not None},
        **ends,
    )


def _added_tokens(vocabulary: Vocabulary) -> list[AddedToken]:
    """The tokens that are cut out of the text whole, before everything else."""
    # White space after Phi-3's tokens belongs to them; no key says so, and llama.cpp knows it by the model's name.
    swallows = vocabulary.metadata.get("general.architecture") == "phi3" and vocabulary.read("model", str) == "llama"
    return [
        AddedToken(
            token,
            special=kind != USER_DEFINED,
            normalized=False,
            rstrip=swallows and token not in ("<unk>", "<s>", "<|endoftext|>"),
        )
        for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]


def _byte_level_bpe(vocabulary: Vocabulary) -> tuple[Tokenizer, bool]:
    name, source = vocabulary.read("pre", str), vocabulary.source
    rule = PRE_TOKENIZERS.get(name)
    if rule is None:
        known = ", ".join(names.split()[0] for names, _ in _RULES)
        raise EpoError(
            f"{source}: tokenizer.ggml.pre is {name!r}, which is not supported; supported are: {known}, and what "
            "llama.cpp reads like these"
        )
    merges = []
    for line in vocabulary.read_list("merges", str):
        left, _, right = line.partition(" ")
        for part in (left, right, left + right):
            if part not in vocabulary.ids:
                raise EpoError(
                    f"{source}: the merge {line!r} of tokenizer.ggml.merges names {part!r}, which is no token; "
                    "a merge is two tokens, separated by a space, that make a third"
                )
        merges.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocabulary.ids, merges, ignore_merges=rule.whole_words))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in rule.patterns]
        + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, rule.add_bos
