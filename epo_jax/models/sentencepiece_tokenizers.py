"""SentencePiece's BPE from a GGUF file that keeps scores in place of merges.

Facts from llama.cpp, src/llama-vocab.cpp, and from SentencePiece: of the neighbours whose union is a token, those with
the best score are merged first, the leftmost of equal ones; what is left that is no token becomes its bytes; a space is
added before the text, and before the text after each special token, unless the file says not to.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers

from epo_jax.errors import EpoError
from epo_jax.models.gguf_vocabulary import BYTE, CONTROL, UNKNOWN, USER_DEFINED, Vocabulary

SPACE = "▁"  # stands for a space in SentencePiece vocabularies
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def spaces_in_text(vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary with user-defined runs of spaces as they stand in text.

    User-defined tokens are cut out of the text before its spaces are rewritten. Older files have runs of spaces among
    them (Gemma's) as SentencePiece writes them, newer ones as spaces.
    """
    tokens = list(vocabulary.tokens)
    for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        plain = token.replace(SPACE, " ")
        if kind == USER_DEFINED and plain.isspace() and plain not in vocabulary.ids:
            tokens[index] = plain
    return dataclasses.replace(vocabulary, tokens=tokens, ids={token: index for index, token in enumerate(tokens)})


def sentencepiece_bpe(vocabulary: Vocabulary) -> tuple[Tokenizer, bool]:
    """The tokenizer, without its added tokens, and whether BOS is added where the file does not say.

    Raises:
        EpoError: keys of the metadata are missing, contradict each other or ask for what is not supported.
    """
    source = vocabulary.source
    scores = _read_scores(vocabulary)
    pre = vocabulary.read("pre", str, "default")
    if pre != "default":
        raise EpoError(
            f"{source}: tokenizer.ggml.pre is {pre!r}, which is for byte-level vocabularies; "
            "with tokenizer.ggml.model 'llama' it is 'default' or missing"
        )
    if "tokenizer.ggml.precompiled_charsmap" in vocabulary.metadata:
        raise EpoError(
            f"{source}: tokenizer.ggml.precompiled_charsmap rewrites text before it is cut, which is not supported; "
            "files of Llama, Mistral, Phi-3 and Gemma have no such key"
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
    # Added tokens cut the text first, so that the text after each of them goes through all steps anew.
    read: list[Any] = []
    if vocabulary.read("remove_extra_whitespaces", bool, False):
        read += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if vocabulary.read("add_space_prefix", bool, True):
        read.append(normalizers.Prepend(SPACE))
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence([*read, normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer, True


def _read_scores(vocabulary: Vocabulary) -> list[float]:
    scores: list[float] = vocabulary.read_list("scores", float)
    if len(scores) != len(vocabulary.tokens):
        raise EpoError(
            f"{vocabulary.source}: tokenizer.ggml.scores has {len(scores)} entries and tokenizer.ggml.tokens "
            f"{len(vocabulary.tokens)}; they must have one each for every token"
        )
    wrong = next((index for index, score in enumerate(scores) if not math.isfinite(score)), None)
    if wrong is not None:
        raise EpoError(
            f"{vocabulary.source}: tokenizer.ggml.scores of token {wrong} is {scores[wrong]}, not a finite number"
        )
    return scores


def _merges_by_score(vocabulary: Vocabulary, scores: list[float]) -> list[tuple[str, str]]:
    """Every way to make a token of two others, best score first.

    Raises:
        EpoError: tokens of one score that no list of merges can give SentencePiece's order.
    """
    # Tokens of the other kinds are never made from the text's characters: they are cut out of it whole, or stand for
    # a byte.
    plain = {
        token: scores[index]
        for token, index in vocabulary.ids.items()
        if vocabulary.types[index] not in (UNKNOWN, CONTROL, USER_DEFINED, BYTE)
    }
    pairs = {
        token: [
            (token[:cut], token[cut:]) for cut in range(1, len(token)) if token[:cut] in plain and token[cut:] in plain
        ]
        for token in plain
        if len(token) > 1
    }
    # In Llama 2 and Mistral all runs of spaces have one score. The leftmost pair of a run grows as far as it can before
    # the next one starts, which is what the longest union first gives as well.
    ranked = sorted((token for token in pairs if pairs[token]), key=lambda token: (-plain[token], -len(token)))
    _check_ties(ranked, plain, vocabulary.source)
    return [pair for token in ranked for pair in pairs[token]]


def _check_ties(ranked: list[str], scores: Mapping[str, float], source: str) -> None:
    for score, group in itertools.groupby(ranked, key=scores.__getitem__):
        first, *others = group
        other = next((token for token in others if set(token + first) != {first[0]}), None)
        if other is not None:
            raise EpoError(
                f"{source}: tokenizer.ggml.scores gives {first!r} and {other!r} the same score {score:g}, which leaves "
                "open what is merged first; every token that is made of others must have a score of its own, as files "
                "that were converted with the model's tokenizer.model have"
            )
