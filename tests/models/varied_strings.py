"""Strings of many kinds, the same for the same seed: what tokenizers are compared on."""

from __future__ import annotations

import random
import sys
import unicodedata
from collections.abc import Callable

# fmt: off
WORDS = (
    "the", "of", "and", "to", "in", "that", "it's", "we'll", "they've", "don't", "I'm",
    "you're", "he'd", "CAN'T", "Mr", "Smith", "naive", "tokenizer", "gradient", "prompt", "neuron", "fluent",
    "dreaming", "rock'n'roll", "Antidisestablishmentarianism", "xkcd", "e.g.", "U.S.A.", "hello", "world", "café",
)
# fmt: on
CODE = (
    "def f(x):\n    return x[0]",
    "for (int i = 0; i < 10; ++i) {\n\tsum += a[i];\n}",
    "SELECT * FROM t WHERE id = 42;",
    "<div class='a1'>  3 < 4  </div>",
    "if x == 1:\n        y = 0x1F\n\n        z = 1e-5",
    "import numpy as np\r\nprint(np.zeros((3, 4)))\r\n",
    "\\frac{1}{2} \\cdot x^{2}",
    "#!/bin/sh\necho $HOME && ls -la | wc -l",
    '{"key": [1, 2.5, null], "b": "\\u00e9"}',
    "a+=b; c-=1; // TODO(2024): fix",
)
ACCENTS = "éèêëàâäåæçñöøùúûüýÿßœłžščřĐǆỹạÉÀÜΩλд́и̯".strip()
EMOJI = ("😀", "🎉", "👍🏽", "👨‍👩‍👧", "🇫🇷", "❤️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "☃", "✨")
SPACES = (
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\u200b",
    "\v",
    "\f",
    "\u2028",
)
PUNCTUATION = "!?.,;:'\"()[]{}<>-_=+*/\\|@#$%^&~`…—\u201c\u201d\u2019«»¿。、\uff01"
SCRIPTS = (0x0391, 0x0431, 0x05D0, 0x0627, 0x0905, 0x0E01, 0x10D0, 0x1200, 0x3042, 0x30A2, 0x4E00, 0xAC00, 0x10400)

# Only characters of Unicode 3.2: the libraries compared carry different versions of the tables, all of them later.
KNOWN = [
    chr(point)
    for point in range(sys.maxunicode + 1)
    if unicodedata.ucd_3_2_0.category(chr(point)) not in ("Cn", "Co", "Cs")
]
NUMERALS = [character for character in KNOWN if unicodedata.ucd_3_2_0.category(character)[0] == "N"]
CONTROLS = [character for character in KNOWN if unicodedata.ucd_3_2_0.category(character) in ("Cc", "Cf")]


def varied_strings(count: int, seed: int) -> list[str]:
    """`count` strings, the kinds in turn: words, code, digits, accents, emoji, spaces, controls, scripts, all mixed."""
    rng = random.Random(seed)
    kinds = (_words, _code, _digits, _accents, _emoji, _spaces, _controls, _scripts, _any, _mixed)
    return [kinds[index % len(kinds)](rng) for index in range(count)]


def _several(rng: random.Random, draw: Callable[[], str], most: int, joints: tuple[str, ...] = (" ",)) -> str:
    parts = [draw()]
    for _ in range(rng.randrange(most)):
        parts += [rng.choice(joints), draw()]
    return "".join(parts)


def _words(rng: random.Random) -> str:
    def word() -> str:
        text = rng.choice(WORDS)
        return rng.choice((text, text.title(), text.upper(), text + rng.choice(PUNCTUATION)))

    return _several(rng, word, 12, (" ", " ", " ", "  ", "\n"))


def _code(rng: random.Random) -> str:
    return _several(rng, lambda: rng.choice(CODE), 3, ("\n", "\n\n", "    ", "\t"))


def _digits(rng: random.Random) -> str:
    def number() -> str:
        if rng.random() < 0.5:
            return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 7)))
        return "".join(rng.choice(NUMERALS) for _ in range(rng.randint(1, 4)))

    return _several(rng, number, 6, (" ", "", ".", ",", "  ", "\n\n", "-", "x", "'s", "\t\t"))


def _accents(rng: random.Random) -> str:
    letters = ACCENTS + "abcdefgh"
    return _several(rng, lambda: "".join(rng.choice(letters) for _ in range(rng.randint(1, 8))), 6, (" ", "-", "'"))


def _emoji(rng: random.Random) -> str:
    return _several(rng, lambda: rng.choice((*EMOJI, *WORDS)), 8, ("", " ", "  "))


def _spaces(rng: random.Random) -> str:
    return _several(rng, lambda: rng.choice((*SPACES, *SPACES, *WORDS, "7", "!", "'s")), 14, ("",))


def _controls(rng: random.Random) -> str:
    return _several(rng, lambda: rng.choice((*CONTROLS, "a", "B", "5")), 10, ("", "", " "))


def _scripts(rng: random.Random) -> str:
    def word() -> str:
        start = rng.choice(SCRIPTS)
        return "".join(chr(start + rng.randrange(20)) for _ in range(rng.randint(1, 6)))

    return _several(rng, word, 5, (" ", "", "、", "\n", " 3"))


def _any(rng: random.Random) -> str:
    return _several(rng, lambda: rng.choice(KNOWN), 16, ("", "", " "))


def _mixed(rng: random.Random) -> str:
    kinds = (_words, _digits, _accents, _emoji, _spaces, _controls, _scripts, _any)
    return _several(rng, lambda: rng.choice(kinds)(rng), 4, ("", " ", "\n", "  "))
