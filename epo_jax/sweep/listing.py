"""Which features a sweep is about: strings, ranges, files, and all latents of an autoencoder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from epo_jax.autoencoders import open_autoencoder
from epo_jax.dream.ranges import MOST, expand
from epo_jax.errors import EpoError, one_line

COMMENT = "#"
_LATENTS = re.compile(r"(-?)sae:(.+):(\*|\d+:\d+)", re.DOTALL)


def listed_features(given: Iterable[str], files: Iterable[str | Path] = ()) -> list[str]:
    """The feature strings that texts and files name, in their order, each once.

    Args:
        given: feature strings or ranges, "L0:12.N0:100"; of an autoencoder also "sae:PATH/ID:*" and "sae:PATH/ID:0:64".
        files: with one such a line; empty lines and those that start with # are passed over.

    Raises:
        EpoError: a file that cannot be read, a range that holds nothing, an autoencoder that is not there, or nothing.
    """
    texts = [*given, *(line for file in files for line in _lines(file))]
    found = list(dict.fromkeys(feature for text in texts for feature in _expanded(text)))
    if not found:
        raise EpoError("--features: none given; say which, as in --features=L0:12.N0:100, or give a --features_file")
    return found


def _lines(file: str | Path) -> list[str]:
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EpoError(f"--features_file={file}: cannot be read ({one_line(error)})") from error
    # Spaces count: "logit: a" and "logit: a " are two features.
    texts = [line.removesuffix("\r") for line in lines]
    return [text for text in texts if text.strip() and not text.startswith(COMMENT)]


def _expanded(text: str) -> Sequence[str]:
    match = _LATENTS.fullmatch(text)
    if match is None:
        return expand(text, "features")
    sign, name, numbers = match.groups()
    first, _, last = numbers.partition(":")
    # The last colon divides, so that a folder may end in a colon and a number.
    if numbers != "*" and Path(f"{name}:{first}").expanduser().exists():
        return [text]
    flag = f"--features={text}"
    if numbers == "*":
        latents = range(open_autoencoder(name, flag).d_sae)
    else:
        latents = range(int(first), int(last))
        if not latents:
            raise EpoError(f"{flag}: the range {numbers} is empty; it holds its start and not its end, as in 0:64")
        if len(latents) > MOST:
            raise EpoError(f"{flag}: names {len(latents)}, and at most {MOST} are taken")
    return [f"{sign}sae:{name}:{latent}" for latent in latents]
