"""Tokenizers from the metadata of GGUF files.

Facts from llama.cpp, src/llama-vocab.cpp: which names of pre-tokenizers share which patterns, which of them imply a BOS
and whole words, and that a SentencePiece vocabulary is merged by its scores.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from epo_jax.errors import EpoError

# The kinds of tokens that tokenizer.ggml.token_type tells apart (0, undefined, and 1, normal, are plain vocabulary).
UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 3, 4, 5, 6

SPACE = "▁"  # stands for a space in SentencePiece vocabularies
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


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
)
PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {name: rule for names, rule in _RULES for name in names.split()}


def tokenizer_from_gguf(metadata: Mapping[str, Any], source: str) -> PreTrainedTokenizerFast:
    """The tokenizer that a GGUF file describes.

    "gpt2" files give byte-level BPE cut by the rule that tokenizer.ggml.pre names, "llama" files give SentencePiece's
    BPE by scores with byte fallback. Text is not normalized: GGUF has no key for it and llama.cpp does not, though the
    tokenizer.json of some families (Qwen2, OLMo) composes to NFC first. Bytes that a byte-level vocabulary lacks are
    left out of the ids without a word, as by the model's own tokenizer.json (SmolLM2 lacks six control characters).

    Args:
        metadata: GGUF key -> decoded Python value.
        source: the file's name, for errors.

    Returns:
        The tokenizer. Its init_kwargs["unused_token_ids"] lists the tokens that the file marks unused.

    Raises:
        EpoError: an unsupported model or pre-tokenizer, or keys that are missing or contradict each other.
    """
    vocabulary = _read_vocabulary(metadata, source)
    build = _MODELS.get(vocabulary.read("model", str))
    if build is None:
        raise EpoError(
            f"{source}: tokenizer.ggml.model is {metadata['tokenizer.ggml.model']!r}, which is not supported; "
            f"supported are: {', '.join(_MODELS)}"
        )
    tokenizer, add_bos = build(vocabulary)
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind != USER_DEFINED, normalized=False)
            for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
            if kind in (UNKNOWN, CONTROL, USER_DEFINED)
        ]
    )
    names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    special = {f"{short}_token": vocabulary.special(name) for name, short in names.items()}
    ends = {"add_bos_token": vocabulary.read("add_bos_token", bool, add_bos)}
    ends["add_eos_token"] = vocabulary.read("add_eos_token", bool, False)
    for name, added in ends.items():
        if added and special[name.removeprefix("add_")] is None:
            end = name.split("_")[1]
            raise EpoError(f"{source}: {end.upper()} is to be added, but there is no tokenizer.ggml.{end}_token_id")
    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    return make(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        chat_template=metadata.get("tokenizer.chat_template"),
        # transformers keeps keywords that it does not know in init_kwargs and saves them in tokenizer_config.json, so
        # the mark survives copies and save_pretrained.
        unused_token_ids=[index for index, kind in enumerate(vocabulary.types) if kind == UNUSED],
        **{name: token for name, token in special.items() if token is not None},
        **ends,
    )


@dataclasses.dataclass(frozen=True)
class _Vocabulary:
    metadata: Mapping[str, Any]
    source: str
    tokens: list[str]
    types: list[int]
    ids: dict[str, int]

    def read(self, name: str, kind: type, default: Any = None) -> Any:
        return _read(self.metadata, self.source, name, kind, default)

    def read_list(self, name: str, kind: type) -> list[Any]:
        return _read_list(self.metadata, self.source, name, kind)

    def special(self, name: str) -> str | None:
        if f"tokenizer.ggml.{name}_token_id" not in self.metadata:
            return None
        index: int = self.read(f"{name}_token_id", int)
        if not 0 <= index < len(self.tokens):
            raise EpoError(
                f"{self.source}: tokenizer.ggml.{name}_token_id is {index}, outside the vocabulary 0 to "
                f"{len(self.tokens) - 1}"
            )
        return self.tokens[index]


def _read(metadata: Mapping[str, Any], source: str, name: str, kind: type, default: Any = None) -> Any:
    key = f"tokenizer.ggml.{name}"
    value = metadata.get(key, default)
    if value is None:
        raise EpoError(f"{source}: the GGUF metadata lacks {key}, so it holds no whole tokenizer")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise EpoError(f"{source}: {key} holds a {type(value).__name__} where a {kind.__name__} is read")
    return value


def _read_list(metadata: Mapping[str, Any], source: str, name: str, kind: type) -> list[Any]:
    values: list[Any] = _read(metadata, source, name, list)
    wrong = next((value for value in values if not isinstance(value, kind)), None)
    if wrong is not None:
        raise EpoError(f"{source}: tokenizer.ggml.{name} holds {wrong!r} where every entry is a {kind.__name__}")
    return values


def _read_vocabulary(metadata: Mapping[str, Any], source: str) -> _Vocabulary:
    tokens: list[str] = _read_list(metadata, source, "tokens", str)
    types: list[int] = _read_list(metadata, source, "token_type", int)
    ids = {token: index for index, token in enumerate(tokens)}
    if len(types) != len(tokens):
        raise EpoError(
            f"{source}: tokenizer.ggml.token_type has {len(types)} entries and tokenizer.ggml.tokens {len(tokens)}; "
            "they must have one each for every token"
        )
    if len(ids) != len(tokens):
        twice = next(token for index, token in enumerate(tokens) if ids[token] != index)
        raise EpoError(f"{source}: tokenizer.ggml.tokens has the token {twice!r} twice; every token must be different")
    if "" in ids:
        raise EpoError(f"{source}: token {ids['']} of tokenizer.ggml.tokens is empty; every token must have a text")
    wrong = next((index for index, kind in enumerate(types) if kind not in range(BYTE + 1)), None)
    if wrong is not None:
        raise EpoError(
            f"{source}: tokenizer.ggml.token_type of token {wrong} is {types[wrong]!r}, not one of 0 to {BYTE}"
        )
    return _Vocabulary(metadata, source, tokens, types, ids)


def _byte_level_bpe(vocabulary: _Vocabulary) -> tuple[Tokenizer, bool]:
    name, source = vocabulary.read("pre", str), vocabulary.source
    rule = PRE_TOKENIZERS.get(name)
    if rule is None:
        raise EpoError(
            f"{source}: tokenizer.ggml.pre is {name!r}, which is not supported; "
            f"supported are: {', '.join(PRE_TOKENIZERS)}"
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


def _sentencepiece_bpe(vocabulary: _Vocabulary) -> tuple[Tokenizer, bool]:
    scores, source = vocabulary.read_list("scores", float), vocabulary.source
    if len(scores) != len(vocabulary.tokens):
        raise EpoError(
            f"{source}: tokenizer.ggml.scores has {len(scores)} entries and tokenizer.ggml.tokens "
            f"{len(vocabulary.tokens)}; they must have one each for every token"
        )
    unknown = vocabulary.special("unknown")
    held = {token for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True) if kind == BYTE}
    byte_fallback = held.issuperset(f"<0x{byte:02X}>" for byte in range(256))
    if not byte_fallback and unknown is None:
        raise EpoError(
            f"{source}: has neither the 256 byte tokens <0x00> to <0xFF> nor a tokenizer.ggml.unknown_token_id, so "
            "characters outside the vocabulary would be lost"
        )
    merges = _merges_by_score(vocabulary, scores)
    tokenizer = Tokenizer(
        models.BPE(vocabulary.ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=byte_fallback)
    )
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    spaces = normalizers.Replace(" ", SPACE)
    if vocabulary.read("add_space_prefix", bool, True):
        # Added tokens cut the text first, so that like in llama.cpp the text after each of them gets the space too.
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = spaces
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer, True


def _merges_by_score(vocabulary: _Vocabulary, scores: list[float]) -> list[tuple[str, str]]:
    """Every way to make a token of two others, best score first: SentencePiece keeps scores in place of merges."""
    # Tokens of the other kinds are never made from the text's characters: they are cut out of it whole, or stand for
    # a byte.
    plain = {
        token: scores[index]
        for token, index in vocabulary.ids.items()
        if vocabulary.types[index] not in (UNKNOWN, CONTROL, USER_DEFINED, BYTE)
    }
    ranked = sorted((token for token in plain if len(token) > 1), key=lambda token: -plain[token])
    return [
        (token[:cut], token[cut:])
        for token in ranked
        for cut in range(1, len(token))
        if token[:cut] in plain and token[cut:] in plain
    ]


_MODELS: Mapping[str, Callable[[_Vocabulary], tuple[Tokenizer, bool]]] = {
    "gpt2": _byte_level_bpe,
    "llama": _sentencepiece_bpe,
}
