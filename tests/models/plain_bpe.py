"""Byte-level BPE in plain Python: the oracle of the tokenizers' tests.

Makes the golden file (needs the embedded model and the `regex` package) and prints how many strings it wrote:

    python tests/models/plain_bpe.py
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import regex

GOLDEN = Path(__file__).with_name("tokenizer_golden.json")

# As in llama.cpp's src/llama-vocab.cpp, where what lies between the matches is kept.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
REST_AND_SLASHES = REST.replace(r"[\r\n]*", r"[\r\n/]*")


def cased(end: str) -> str:
    """Words that change from capitals to small letters once; other letters and accents go with both."""
    upper, lower = r"(?:(?!\p{Ll})[\p{L}\p{M}])", r"(?:(?![\p{Lu}\p{Lt}])[\p{L}\p{M}])"
    return "|".join(rf"[^\r\n\p{{L}}\p{{N}}]?{word}{end}" for word in (f"{upper}*{lower}+", f"{upper}+{lower}*"))


PATTERNS = {
    "smollm": (r"\p{N}", GPT2),
    "gpt-2": (GPT2,),
    "llama-bpe": (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST,),
    "dbrx": (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST,),
    "qwen2": (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST,),
    "tekken": (cased("") + r"|\p{N}" + REST_AND_SLASHES,),
    "gpt-4o": (cased(CONTRACTIONS + "?") + r"|\p{N}{1,3}" + REST_AND_SLASHES,),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
}

GOLDEN_TEXTS = (
    "",
    " ",
    "   ",
    "\n\n\n",
    "\t\tx",
    "Hello world! 123",
    "The capital of France is",
    "Café déjà vu.",
    "Cafe\u0301 with a combining accent",
    "3.14159",
    "a  1",
    "a   12  345",
    "In 1984,\n\n2024 people",
    "\n\n7",
    "1st 2nd 3rd",
    "x1y2z3",
    "½ cup, x² + y³",
    "٣٤٥ ١٢",
    "१२३४",
    "Ⅷ ⅳ ①②",
    "\U0001d7d9\U0001d7da\U0001d7db",
    "\uff11\uff12\uff13",
    "it's we'll they've I'M",
    "don't don\u2019t",
    "def f(x):\n    return x[0]",
    "for (int i = 0; i < 10; ++i) {\n\tsum += a[i];\n}",
    "SELECT * FROM t WHERE id = 42;",
    "https://example.org/a?b=1&c=%20",
    "😀🎉👍🏽",
    "👨‍👩‍👧 family",
    "1️⃣ 2️⃣",
    "日本語のテキスト",
    "中文 字符",
    "Привет, мир",
    "שלום עולם",
    "مرحبا بالعالم",
    "สวัสดี",
    "안녕하세요",
    "a\u00a0b\u2003c\u3000d",
    "zero\u200bwidth\u200djoin",
    "\x00\x01\x02",
    "\ufeffBOM",
    "\ufffd",
    "e.g. U.S.A. ... !?!",
    "trailing space ",
    "  leading",
    "CamelCaseAndsnake_case-and-kebab",
    "<b>1</b>  <i>2</i>",
)


def encode(
    text: str,
    patterns: Sequence[str],
    ids: Mapping[str, int],
    ranks: Mapping[tuple[str, str], int],
    whole_words: bool = False,
) -> list[int]:
    """Token ids: cut into words by each pattern in turn, write bytes as characters, merge the lowest rank first.

    Bytes without a token are left out before merging, as the tokenizers library does that runs a tokenizer.json
    (llama.cpp leaves them out after it).
    """
    out = []
    for word in cut(text, patterns):
        symbols = [byte_characters()[byte] for byte in word.encode()]
        if whole_words and "".join(symbols) in ids:
            out.append(ids["".join(symbols)])
        else:
            out += [ids[symbol] for symbol in merge([symbol for symbol in symbols if symbol in ids], ranks)]
    return out


def cut(text: str, patterns: Sequence[str]) -> list[str]:
    pieces = [text] if text else []
    for pattern in patterns:
        pieces = [part for piece in pieces for part in isolate(pattern, piece)]
    return pieces


def isolate(pattern: str, piece: str) -> Iterator[str]:
    end = 0
    for match in regex.finditer(pattern, piece):
        if match.start() > end:
            yield piece[end : match.start()]
        yield match[0]
        end = match.end()
    if end < len(piece):
        yield piece[end:]


def merge(symbols: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    while True:
        pairs = [(ranks[pair], at) for at, pair in enumerate(itertools.pairwise(symbols)) if pair in ranks]
        if not pairs:
            return symbols
        at = min(pairs)[1]
        symbols = [*symbols[:at], symbols[at] + symbols[at + 1], *symbols[at + 2 :]]


@functools.cache
def byte_characters() -> list[str]:
    """GPT-2's alphabet: a byte is its own character where Latin-1 shows one, and the rest follow from U+0100 on."""
    free = iter(range(0x100, 0x200))
    return [chr(byte) if chr(byte).isprintable() and byte != 0x20 else chr(next(free)) for byte in range(256)]


def main() -> None:
    from epo_jax.models.embedded import embedded_file
    from epo_jax.models.gguf_file import open_gguf

    metadata = open_gguf(embedded_file("smollm2-135m")).metadata
    ids = {token: index for index, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(metadata["tokenizer.ggml.merges"])}
    rows = [json.dumps({"text": text, "ids": encode(text, PATTERNS["smollm"], ids, ranks)}) for text in GOLDEN_TEXTS]
    GOLDEN.write_text("[\n" + ",\n".join(rows) + "\n]\n")
    print(f"wrote {len(rows)} strings to {GOLDEN.name}")


if __name__ == "__main__":
    main()
