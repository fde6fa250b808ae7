"""Constraints in plain Python, by decoding and encoding, and small tokenizers to hold them against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tiny_models
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

LETTERS = "abdegnorstu'é ßſKŉ好"
PIECES = ["▁d", "do", "▁do", "og", "▁dog", "st", "ras", "▁▁", "ss", "▁the", "he", "好e", ">", "<"]


def text_of(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """The text of tokens, nothing cleaned up and nothing skipped."""
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def holds(
    tokenizer: PreTrainedTokenizerFast,
    prompt: Sequence[int],
    texts: Iterable[str],
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
) -> bool:
    """Whether one of some texts, in any case, stands in the whole text and not in a frozen part of it alone."""
    prefix, prompt, suffix = list(prefix), list(prompt), list(suffix)
    whole = text_of(tokenizer, prefix + prompt + suffix)
    begun = shared(text_of(tokenizer, prefix), whole)
    some = tokenizer.convert_tokens_to_ids("d")
    after = text_of(tokenizer, [some, *suffix])[len(text_of(tokenizer, [some])) :]
    ended = len(whole) - shared(after[::-1], whole[::-1])
    folded, origin = "", []
    for place, character in enumerate(whole):
        folded += character.casefold()
        origin += [place] * len(character.casefold())
    for text in texts:
        sought = text.casefold()
        found = folded.find(sought)
        while found >= 0:
            first, last = origin[found], origin[found + len(sought) - 1]
            if not (last < begun or first >= ended):
                return True
            found = folded.find(sought, found + 1)
    return False


def shared(one: str, other: str) -> int:
    """Characters that two texts begin with together."""
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


def survives(
    tokenizer: PreTrainedTokenizerFast, prompt: Sequence[int], prefix: Sequence[int] = (), suffix: Sequence[int] = ()
) -> bool:
    """Whether the whole text, a BOS aside, is tokenized to the same tokens again."""
    ids = [*prefix, *prompt, *suffix]
    if ids[0] == tokenizer.bos_token_id:
        ids = ids[1:]
    return tokenizer.encode(text_of(tokenizer, ids), add_special_tokens=False) == ids


def byte_level() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with pieces of characters, <s> as BOS, and an added token with a space in it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>"])
    tokenizer.train_from_iterator([tiny_models.TEXT, "dog Straße 好好 DOG ſt Strasse"] * 3, trainer)
    tokenizer.add_tokens([AddedToken("do gé", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", clean_up_tokenization_spaces=False)


def sentencepiece(strip: bool) -> PreTrainedTokenizerFast:
    """A tokenizer as SentencePiece's: pieces with marks for spaces, and bytes for what is no piece."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS.replace(" ", ""), *PIECES]
    merges = [(piece[:cut], piece[cut:]) for piece in PIECES for cut in range(1, len(piece))]
    merges = [pair for pair in merges if set(pair) <= set(pieces)]
    bpe = models.BPE(
        {piece: index for index, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True
    )
    tokenizer = Tokenizer(bpe)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    read = [normalizers.Replace(" ", "▁")]
    if strip:
        steps, read = [*steps, decoders.Strip(" ", 1, 0)], [normalizers.Prepend("▁"), *read]
    tokenizer.decoder, tokenizer.normalizer = decoders.Sequence(steps), normalizers.Sequence(read)
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", clean_up_tokenization_spaces=False)


def of_words(mark: bool) -> PreTrainedTokenizerFast:
    """A tokenizer whose pieces are joined by spaces, or have marks for them that the first one loses."""
    pieces = ["d", "og", "dog", "the", "ß", "好", "ſ", "st", "K", "a"]
    pieces = [*pieces, *(f"▁{piece}" for piece in pieces), "▁", "▁▁d"] if mark else pieces
    tokenizer = Tokenizer(models.WordLevel({piece: index for index, piece in enumerate(pieces)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if mark:
        tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
