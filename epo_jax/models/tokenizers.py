"""Tokenizers: read from a GGUF file or a folder, and what a search has to know of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from epo_jax.errors import EpoError, one_line
from epo_jax.models.gguf_tokenizers import tokenizer_from_gguf
from epo_jax.models.sentencepiece_tokenizers import BYTE_TOKEN, SPACE

__all__ = [
    "adds_bos",
    "allowed_tokens",
    "byte_level_bytes",
    "known_tokens",
    "texts_by_id",
    "token_texts",
    "tokenizer_from_folder",
    "tokenizer_from_gguf",
]

# Rows that a vocabulary keeps free for later, by their names: <unused12> (Gemma), [unused12] (BERT),
# <|reserved_special_token_3|> (Llama 3), <|dummy_7|> (Phi), <|placeholder1|> (Phi), [PAD151936] (made by llama.cpp).
PLACEHOLDER = re.compile(r"(?:<\|?|\[)(?:unused|reserved|reserved_special_token|dummy|placeholder|PAD)_?\d+(?:\|?>|\])")

# The files beside tokenizer.json that transformers reads.
SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def tokenizer_from_folder(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder in Hugging Face format: its tokenizer.json as it is; no network and no remote code.

    Raises:
        EpoError: tokenizer.json is missing, or it or a file beside it is corrupt.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise EpoError(f"{path}: there is no such file; a model's folder must have its tokenizer as tokenizer.json")
    for name in ("tokenizer.json", *SIDE_FILES):
        if (folder / name).is_file():
            _check_json(folder / name)
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:
        # tokenizers raises the bare class for whatever it cannot read; a subclass is something else.
        if type(error) is not Exception:
            raise
        raise EpoError(f"{path}: not a valid tokenizer ({' '.join(str(error).split())[:200]})") from error
    # Cleaning up would drop spaces before punctuation, and the text would no longer give the ids back.
    try:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            folder, local_files_only=True, clean_up_tokenization_spaces=False
        )
    except Exception as error:
        # transformers takes the values of the files beside it for granted, those of chat templates among them.
        raise EpoError(f"{folder}: not a valid tokenizer ({one_line(error)})") from error
    return tokenizer


def adds_bos(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether encoding with special tokens puts the tokenizer's BOS first."""
    ids = tokenizer("a", add_special_tokens=True)["input_ids"]
    return tokenizer.bos_token_id is not None and len(ids) > 0 and ids[0] == tokenizer.bos_token_id


def allowed_tokens(tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> Bool[np.ndarray, "V"]:
    """Which tokens a search may use.

    Args:
        tokenizer: the model's tokenizer.
        vocab_size: V, the rows of the embedding.

    Returns:
        bool[V], False for special tokens, rows without a token, and tokens that the model was not trained on: those
        that a GGUF file marks unused and those named as placeholders.
    """
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    special.update(tokenizer.all_special_ids, tokenizer.init_kwargs.get("unused_token_ids", ()))
    allowed = np.zeros(vocab_size, dtype=np.bool_)
    for token, index in tokenizer.get_vocab().items():
        if index < vocab_size:
            allowed[index] = index not in special and PLACEHOLDER.fullmatch(token) is None
    return allowed


def known_tokens(tokenizer: PreTrainedTokenizerFast, rows: int) -> Bool[np.ndarray, "V"]:
    """bool[V]: which of the embedding's rows belong to a token of the tokenizer."""
    known = np.zeros(rows, dtype=np.bool_)
    known[[index for index in tokenizer.get_vocab().values() if index < rows]] = True
    return known


def texts_by_id(tokenizer: PreTrainedTokenizerFast, ids: Int[np.ndarray, "*shape"]) -> dict[int, str]:
    """The text of each token of an array, each once, as `token_texts` gives it."""
    used = np.unique(ids).tolist()
    return dict(zip(used, token_texts(tokenizer, used), strict=True))


def token_texts(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> list[str]:
    r"""The text of each token alone, for display.

    A token that holds whole characters gives exactly its text, a leading space included. Bytes of a character that is
    not whole in the token are written as \xe2, and so are those of U+FFFD itself, so that no text shows it. Tokens of
    tokenizers that are neither byte-level nor SentencePiece's give the vocabulary's own string.

    Raises:
        EpoError: an id without a token.
    """
    added = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
    steps = _decoder_steps(tokenizer)
    texts = []
    for index in ids:
        token = tokenizer.backend_tokenizer.id_to_token(int(index)) if index >= 0 else None
        if token is None:
            raise EpoError(f"ids: {index} has no token; the tokenizer has {len(tokenizer)} tokens")
        if index in added:
            text = added[index]
        elif "ByteLevel" in steps:
            text = byte_level_bytes(token).decode(errors="backslashreplace")
        elif byte := BYTE_TOKEN.fullmatch(token) if "ByteFallback" in steps else None:
            text = bytes([int(byte[1], 16)]).decode(errors="backslashreplace")
        elif steps & {"ByteFallback", "Metaspace"}:
            text = token.replace(SPACE, " ")
        else:
            text = token
        texts.append(text.replace("\ufffd", r"\xef\xbf\xbd"))
    return texts


def _decoder_steps(tokenizer: PreTrainedTokenizerFast) -> set[str]:
    decoder = tokenizer.backend_tokenizer.decoder
    if decoder is None:
        return set()
    state = json.loads(decoder.__getstate__())
    return {step["type"] for step in (state, *state.get("decoders", ()))}


def byte_level_bytes(token: str) -> bytes:
    """The bytes that a token of a byte-level vocabulary stands for."""
    # A token with a character outside the alphabet is plain text; tokenizers decodes it so too.
    if not all(character in _BYTES for character in token):
        return token.encode()
    return bytes(_BYTES[character] for character in token)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's character for each byte: itself where it is visible in Latin-1, else the next one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


_BYTES = _byte_alphabet()


def _check_json(path: Path) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise EpoError(f"{path}: not readable as JSON ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise EpoError(f"{path}: holds a {type(content).__name__} where an object is read")
    # transformers takes this key for granted where there is no tokenizer_config.json.
    if path.name == "tokenizer.json" and not isinstance(content.get("added_tokens"), list):
        raise EpoError(f"{path}: not a valid tokenizer (it lacks the list added_tokens)")
